-- figures: every offer of a show at one instant, with the end of the outbox at the same instant.
-- Keeps:   writes nothing.   Cost: O(offers).   Clock: Redis TIME.
-- Retry:   harmless.
-- Needs:   _records
-- KEYS[1]  meta       hash    stock_epoch run_id seq offers
-- KEYS[2]  offers     hash    slot -> packed offer
-- KEYS[3]  outbox     stream  read for its last id
-- KEYS[4]  wait       zset    slot << 40 | place -> slot 2, buyer 16, qty 2
-- KEYS[5]  buyers     hash    asked for its mark
-- KEYS[6]  deadlines  zset    the same
-- KEYS[7]  guests     hash    the same
-- KEYS[8]  refused    zset    the same
-- ARGV[1]  stock_epoch
-- ARGV[2]  run_id
-- Reply:   a (also where an offer, a whole key or the group was lost), or {time, last entry, slot,
--          packed offer, waiting, ...}
-- Codes:   none
local meta_key, offers_key, outbox_key, wait_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local buyers_key, deadlines_key, guests_key, refused_key = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local epoch, run = ARGV[1], ARGV[2]
if must_rebuild(meta_key, epoch, run, outbox_key) then return 'a' end
if lacks_offers(meta_key, offers_key) then return 'a' end

-- By their marks: an older version of the service may have begun one anew.
if not (call('HGET', buyers_key, 'mark') and call('ZSCORE', deadlines_key, 'mark')
  and call('ZSCORE', wait_key, 'mark') and call('HGET', guests_key, 'mark')
  and call('ZSCORE', refused_key, 'mark')) then return 'a' end
local stream, last, groups = redis.pcall('XINFO', 'STREAM', outbox_key), '0-0', 0
for i = 1, #stream, 2 do -- nothing where the stream is lost
  if stream[i] == 'last-generated-id' then last = stream[i + 1] end
  if stream[i] == 'groups' then groups = stream[i + 1] end
end
if groups == 0 then return 'a' end
local reply, offers = { clock(), last }, call('HGETALL', offers_key)
local anyone = call('ZCARD', wait_key) > 1 -- beside the mark
for i = 1, #offers, 2 do
  local low, waiting = unpack_bytes('>H', offers[i]) * 2 ^ 40, 0
  if anyone then
    local high = '(' .. string.format('%.0f', low + 2 ^ 40)
    waiting = call('ZCOUNT', wait_key, string.format('%.0f', low), high)
  end
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = offers[i], offers[i + 1], waiting
end
return reply
