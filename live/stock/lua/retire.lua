-- retire: let all that Redis has of a show end by itself; of a show that is over and settled.
-- Keeps:   a later life than the one that was meant; an outbox that is not settled to its end.
-- Cost:    O(1).   Clock: Redis', of the expiry.
-- Retry:   harmless; the end is later then.
-- Needs:   nothing
-- KEYS[1]  meta       hash    stock_epoch; of any run: after a restart an ended show is in none
-- KEYS[2]  offers     hash
-- KEYS[3]  buyers     hash
-- KEYS[4]  outbox     stream  with its group, or lost
-- KEYS[5]  deadlines  zset
-- KEYS[6]  wait       zset
-- KEYS[7]  guests     hash
-- KEYS[8]  refused    zset
-- ARGV[1]  stock_epoch
-- ARGV[2]  group
-- ARGV[3]  ms until the end
-- Reply:   1, or 0 (a later life), or q (entries are not settled: a rebuild drains them)
-- Codes:   none
local meta_key, offers_key, buyers_key, outbox_key, deadlines_key, wait_key, guests_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local refused_key = KEYS[8]
local epoch, group, ms = ARGV[1], ARGV[2], ARGV[3]
local present = redis.call('HGET', meta_key, 'stock_epoch')
if present and tonumber(present) > tonumber(epoch) then return 0 end

local stream, last = redis.pcall('XINFO', 'STREAM', outbox_key), nil
for i = 1, #stream, 2 do
  if stream[i] == 'last-generated-id' then last = stream[i + 1] end
end
local groups = last and redis.call('XINFO', 'GROUPS', outbox_key) or {}
for i = 1, #groups do
  local fields = {}
  for j = 1, #groups[i], 2 do fields[groups[i][j]] = groups[i][j + 1] end
  local unread = fields['last-delivered-id'] ~= last
  if fields.name == group and (fields.pending > 0 or unread) then return 'q' end
end
redis.call('PEXPIRE', meta_key, ms)
redis.call('PEXPIRE', offers_key, ms)
redis.call('PEXPIRE', buyers_key, ms)
redis.call('PEXPIRE', outbox_key, ms)
redis.call('PEXPIRE', deadlines_key, ms)
redis.call('PEXPIRE', wait_key, ms)
redis.call('PEXPIRE', guests_key, ms)
redis.call('PEXPIRE', refused_key, ms)
return 1
