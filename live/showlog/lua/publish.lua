-- publish: append one publication to a log of a show and announce it to all gateways.
-- Keeps:   offsets of a log are 1, 2, 3 ... within the show's log epoch; `total` counts
--          announcements; no log outlives the show's `logs`, and those of a show without a state
--          end in a day.
-- Retry:   a key that the log still remembers gets its first offset; nothing is appended or
--          announced.
-- Cost:    O(1); with a key O(entries of the log).   Clock: none.
-- KEYS[1]  log     stream  id `<offset>-0`, d data, i info, k key
-- KEYS[2]  logs    hash    epoch, total, t:<log> top offset
-- KEYS[3]  live    sharded pub/sub channel
-- ARGV[1]  log name       ARGV[2] key or ""      ARGV[3] entries to keep
-- ARGV[4]  seconds to keep, 0 for ever           ARGV[5] fresh epoch, taken where there is none
-- ARGV[6]  data           ARGV[7] info
-- Reply:   the offset
local log_key, logs_key, live_key = KEYS[1], KEYS[2], KEYS[3]
local log, key, keep, seconds = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local fresh_epoch, data, info = ARGV[5], ARGV[6], ARGV[7]

if key ~= '' then
  for _, entry in ipairs(redis.call('XREVRANGE', log_key, '+', '-')) do
    if entry[2][6] == key then
      return tonumber(string.match(entry[1], '^%d+'))
    end
  end
end

if redis.call('HSETNX', logs_key, 'epoch', fresh_epoch) == 1 then
  redis.call('EXPIRE', logs_key, 86400) -- until a state comes, if one does
end
local epoch = redis.call('HGET', logs_key, 'epoch')
local total = redis.call('HINCRBY', logs_key, 'total', 1)
local offset = redis.call('HINCRBY', logs_key, 't:' .. log, 1)
if offset == 1 then
  redis.call('UNLINK', log_key) -- of an epoch that was lost: its ids are higher than ours
end
redis.call('XADD', log_key, 'MAXLEN', keep, offset .. '-0', 'd', data, 'i', info, 'k', key)
local rest_ms = redis.call('PTTL', logs_key)
if seconds > 0 then
  redis.call('EXPIRE', log_key, seconds)
elseif rest_ms > 0 then
  redis.call('PEXPIRE', log_key, rest_ms)
else
  redis.call('PERSIST', log_key)
end
local head = table.concat({'p', log, epoch, total, offset, #data, #info}, ' ')
redis.call('SPUBLISH', live_key, head .. '\n' .. data .. info)
return offset
