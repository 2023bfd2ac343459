-- position: read where all logs of a show stand, and its state, at one instant.
-- Keeps:   a show that is read has a log epoch; the caller knows that there is such a show.
-- Retry:   harmless.   Cost: O(logs of the show).   Clock: none.
-- Flags:   allow-oom
-- KEYS[1]  logs    hash    epoch, total, t:<log> top offset     KEYS[2]  state  hash  version, json
-- ARGV[1]  fresh epoch, taken where there is none
-- Reply:   [ [field, value, ...] of logs, state or "" ]
local logs_key, state_key = KEYS[1], KEYS[2]
if not redis.call('HGET', logs_key, 'epoch') then
  redis.call('HSET', logs_key, 'epoch', ARGV[1])
  local rest_ms = redis.call('PTTL', state_key) -- of a show that is over; the logs end with it
  if rest_ms > 0 then redis.call('PEXPIRE', logs_key, rest_ms) end
end
return {redis.call('HGETALL', logs_key), redis.call('HGET', state_key, 'json') or ''}
