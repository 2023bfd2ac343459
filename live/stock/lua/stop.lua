-- stop: from now on every script answers "rebuilding" for this show, until a newer life is swapped
--   in.
-- Keeps:   all data, so the outbox can be read to its end; a rebuild that began later goes before.
-- Cost:    O(1).   Clock: none.
-- Retry:   harmless.
-- Needs:   nothing
-- KEYS[1]  meta       hash    stock_epoch run_id seq fence
-- ARGV[1]  fence of the rebuild, or 0 for who has none
-- Reply:   1, or 0 where a rebuild with a higher fence has begun
-- Codes:   none
local meta_key = KEYS[1]
local fence = ARGV[1]
if fence ~= '0' then
  local begun = redis.call('HGET', meta_key, 'fence')
  if begun and tonumber(begun) > tonumber(fence) then return 0 end
  redis.call('HSET', meta_key, 'fence', fence)
end
redis.call('HDEL', meta_key, 'run_id')
return 1
