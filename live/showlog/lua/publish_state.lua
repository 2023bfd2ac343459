-- publish_state: keep the newest state of a show and announce it, with an event of the show log.
-- Keeps:   the stored version never falls; the offset of the event and the state change together;
--          a show that is published has no end, also where it had one before.
-- Retry:   a key that the log still remembers gets its first offset; only a newer state is stored
--          then.
-- Cost:    O(size of the state + entries of the log).   Clock: none.
-- KEYS[1]  log     stream  the show log, as in publish.lua
-- KEYS[2]  logs    hash    epoch, total, t:<log> top offset
-- KEYS[3]  live    sharded pub/sub channel                 KEYS[4]  state  hash  version, json
-- ARGV[1]  log name       ARGV[2] key or ""        ARGV[3] entries to keep
-- ARGV[4]  fresh epoch    ARGV[5] data or ""       ARGV[6] version   ARGV[7] state
-- Reply:   the offset of the event, or the top of the log where there is no event
local log_key, logs_key, live_key, state_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local log, key, keep, fresh_epoch = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local data, version, state = ARGV[5], ARGV[6], ARGV[7]

local known = nil
if key ~= '' then
  for _, entry in ipairs(redis.call('XREVRANGE', log_key, '+', '-')) do
    if entry[2][6] == key then
      known = tonumber(string.match(entry[1], '^%d+'))
      break
    end
  end
end
redis.call('PERSIST', state_key)
redis.call('PERSIST', logs_key)
redis.call('PERSIST', log_key)
local newer = tonumber(version) > tonumber(redis.call('HGET', state_key, 'version') or '-1')
local appends = data ~= '' and known == nil
local top = tonumber(redis.call('HGET', logs_key, 't:' .. log) or '0')
if not newer and not appends then
  return known or top
end

if newer then
  redis.call('HSET', state_key, 'version', version, 'json', state)
else
  state = ''
end
redis.call('HSETNX', logs_key, 'epoch', fresh_epoch)
local epoch = redis.call('HGET', logs_key, 'epoch')
local total = redis.call('HINCRBY', logs_key, 'total', 1)
local offset = 0
if appends then
  offset = redis.call('HINCRBY', logs_key, 't:' .. log, 1)
  if offset == 1 then
    redis.call('UNLINK', log_key) -- of an epoch that was lost: its ids are higher than ours
  end
  redis.call('XADD', log_key, 'MAXLEN', keep, offset .. '-0', 'd', data, 'i', '', 'k', key)
else
  data = ''
end
local head = table.concat({'p', log, epoch, total, offset, #data, 0}, ' ')
redis.call('SPUBLISH', live_key, head .. '\n' .. data .. state)
if offset > 0 then
  return offset
end
return known or top
