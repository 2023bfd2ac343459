-- retract: take publications out of a log, where they stand, and announce that they are gone.
-- Keeps:   offsets without a gap: in the place of what was taken back stands the event that says
--          so. The replacement and the announcement are one step, so whoever has heard of it, or
--          reads the log up to it, has nothing that it took back.
-- Retry:   harmless: another announcement of the same.
-- Cost:    O(entries of the log): a stream cannot change an entry, so it is written again.
-- Clock:   none.
-- KEYS[1]  log     stream  id `<offset>-0`, d data, i info, k key
-- KEYS[2]  logs    hash    epoch, total, t:<log> top offset
-- KEYS[3]  live    sharded pub/sub channel
-- ARGV[1]  log name       ARGV[2] entries to keep   ARGV[3] fresh epoch, taken where there is none
-- ARGV[4]  data of the event                        ARGV[5] text that data to take back contains
-- ARGV[6]  text that only such events contain: they stay as they are
-- Reply:   the event's offset
local log_key, logs_key, live_key = KEYS[1], KEYS[2], KEYS[3]
local log, keep, fresh_epoch = ARGV[1], ARGV[2], ARGV[3]
local data, needle, mark = ARGV[4], ARGV[5], ARGV[6]

local entries = redis.call('XRANGE', log_key, '-', '+')
local found = false
for _, entry in ipairs(entries) do
  local fields = entry[2]
  if string.find(fields[2], needle, 1, true) and not string.find(fields[2], mark, 1, true) then
    fields[2], fields[4] = data, ''
    found = true
  end
end
if found then
  local ttl = redis.call('PTTL', log_key)
  redis.call('DEL', log_key)
  for _, entry in ipairs(entries) do
    redis.call('XADD', log_key, entry[1], unpack(entry[2]))
  end
  if ttl > 0 then
    redis.call('PEXPIRE', log_key, ttl)
  end
end

redis.call('HSETNX', logs_key, 'epoch', fresh_epoch)
local epoch = redis.call('HGET', logs_key, 'epoch')
local total = redis.call('HINCRBY', logs_key, 'total', 1)
local offset = redis.call('HINCRBY', logs_key, 't:' .. log, 1)
redis.call('XADD', log_key, 'MAXLEN', keep, offset .. '-0', 'd', data, 'i', '', 'k', '')
local head = table.concat({'p', log, epoch, total, offset, #data, 0}, ' ')
redis.call('SPUBLISH', live_key, head .. '\n' .. data)
return offset
