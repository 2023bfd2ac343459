-- count_viewers: write this gateway's heartbeat, forget dead gateways, add up the living.
-- Keeps:   a gateway without a heartbeat for ARGV[3] ms counts nothing; without any, nothing stays.
-- Retry:   harmless.   Cost: O(gateways).   Clock: Redis TIME, because gateways' clocks differ.
-- Flags:   allow-oom
-- KEYS[1]  viewers hash    gateway -> `<viewers>:<ms>`
-- ARGV[1]  gateway, "" to read only   ARGV[2]  its viewers   ARGV[3]  ms until a gateway is dead
-- Reply:   viewers of all living gateways
local viewers_key = KEYS[1]
local gateway, count, dead_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if gateway ~= '' then
  redis.call('HSET', viewers_key, gateway, string.format('%s:%.0f', count, now))
  redis.call('PEXPIRE', viewers_key, dead_ms)
end
local sum = 0
local rows = redis.call('HGETALL', viewers_key)
for i = 1, #rows, 2 do
  local viewers, at = string.match(rows[i + 1], '^(%d+):(%d+)$')
  if now - tonumber(at) > dead_ms then
    redis.call('HDEL', viewers_key, rows[i])
  else
    sum = sum + tonumber(viewers)
  end
end
return sum
