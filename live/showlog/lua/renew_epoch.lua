-- renew_epoch: begin another life of a show's logs, because they went back in time.
-- Keeps:   whoever asks second with the same old epoch changes nothing.
-- Retry:   harmless.   Cost: O(1).   Clock: none.
-- Flags:   allow-oom
-- KEYS[1]  logs    hash    epoch, total, t:<log> top offset
-- ARGV[1]  the epoch that was seen   ARGV[2]  fresh epoch
-- Reply:   1 (renewed) or 0
local logs_key, seen, fresh = KEYS[1], ARGV[1], ARGV[2]
if redis.call('HGET', logs_key, 'epoch') ~= seen then
  return 0
end
redis.call('HSET', logs_key, 'epoch', fresh)
return 1
