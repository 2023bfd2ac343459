-- trim: forget outbox entries that the ledger has and that the reaper no longer needs.
-- Keeps:   every entry that is not acknowledged, and every batch with a deadline to come.
-- Cost:    O(entries freed).   Clock: none.
-- Retry:   harmless.
-- Needs:   nothing
-- KEYS[1]  meta       hash    stock_epoch run_id seq
-- KEYS[2]  outbox     stream  trimmed
-- KEYS[3]  deadlines  zset    its first member bounds the batches that must stay
-- ARGV[1]  group
-- Reply:   the number of entries freed, or a where the group is missing
-- Codes:   none
local meta_key, outbox_key, deadlines_key = KEYS[1], KEYS[2], KEYS[3]
local group = ARGV[1]
-- The id of an entry and its TIME are taken at slightly different instants.
local CLOCK_SLACK_MS = 1000
local groups = redis.pcall('XINFO', 'GROUPS', outbox_key)
if groups.err or #groups == 0 then return 'a' end
local bound = redis.call('XPENDING', outbox_key, group)[2]
if not bound then
  for i = 1, #groups do
    local name, last
    for j = 1, #groups[i], 2 do
      if groups[i][j] == 'name' then name = groups[i][j + 1] end
      if groups[i][j] == 'last-delivered-id' then last = groups[i][j + 1] end
    end
    if name == group then bound = last end
  end
end
if not bound then return 'a' end
local first = redis.call('ZRANGEBYSCORE', deadlines_key, '-inf', '(+inf', 'WITHSCORES',
  'LIMIT', 0, 1) -- the mark stands at +inf
if first[2] then
  local longest = tonumber(redis.call('HGET', meta_key, 'ttl_max') or 0)
  local oldest = tonumber(first[2]) - longest * 1000 - CLOCK_SLACK_MS
  if oldest < tonumber(string.match(bound, '^%d+')) then
    bound = string.format('%.0f', oldest) .. '-0'
  end
end
return redis.call('XTRIM', outbox_key, 'MINID', bound)
