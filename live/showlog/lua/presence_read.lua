-- presence_read: list who is on a channel; forget those whose gateway stopped saying so.
-- Keeps:   as presence_put.   Retry: harmless.   Cost: O(rows).   Clock: Redis TIME.
-- KEYS[1]  presence  hash  client -> `<ms> <info as JSON>`
-- ARGV[1]  ms until a row is old
-- Reply:   [client, info, client, info ...]
local presence_key, old_ms = KEYS[1], tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = {}
local rows = redis.call('HGETALL', presence_key)
for i = 1, #rows, 2 do
  local at, info = string.match(rows[i + 1], '^(%d+) (.*)$')
  if now - tonumber(at) > old_ms then
    redis.call('HDEL', presence_key, rows[i])
  else
    found[#found + 1] = rows[i]
    found[#found + 1] = info
  end
end
return found
