-- forget: take consumers out of the outbox's group that were silent for long and owe nothing.
-- Keeps:   every entry that is not acknowledged, with its consumer; one that lives comes back with
--          its next read.
-- Cost:    O(consumers).   Clock: Redis' own, of each consumer's last call.
-- Retry:   harmless.
-- Needs:   nothing
-- KEYS[1]  outbox     stream  with its group
-- ARGV[1]  group
-- ARGV[2]  silence in ms
-- Reply:   how many were taken out
-- Codes:   none
local outbox_key = KEYS[1]
local group, silence = ARGV[1], tonumber(ARGV[2])
local consumers, gone = redis.pcall('XINFO', 'CONSUMERS', outbox_key, group), 0
for i = 1, #consumers do -- none where stream or group is lost
  local name, pending, idle
  for j = 1, #consumers[i], 2 do
    local field, value = consumers[i][j], consumers[i][j + 1]
    if field == 'name' then name = value end
    if field == 'pending' then pending = value end
    if field == 'idle' then idle = value end
  end
  if pending == 0 and idle > silence then
    redis.call('XGROUP', 'DELCONSUMER', outbox_key, group, name)
    gone = gone + 1
  end
end
return gone
