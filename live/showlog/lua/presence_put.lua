-- presence_put: say that these connections are on a channel, now.
-- Keeps:   a row per connection; rows older than ARGV[1] ms count as gone, and go when somebody
--          reads.
-- Retry:   harmless.   Cost: O(connections given).
-- Clock:   Redis TIME, because gateways' clocks differ.
-- KEYS[1]  presence  hash  client -> `<ms> <info as JSON>`
-- ARGV[1]  ms until a row is old   ARGV[2...]  client, info, client, info ...
-- Reply:   nothing
local presence_key, old_ms = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
for i = 2, #ARGV, 2 do
  redis.call('HSET', presence_key, ARGV[i], now .. ' ' .. ARGV[i + 1])
end
redis.call('PEXPIRE', presence_key, old_ms)
