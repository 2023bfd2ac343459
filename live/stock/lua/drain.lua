-- drain: empty the waitlists of offers that are closing or closed, a bounded number of places a
--   call.
-- Keeps:   stock.   Cost: O(places), <= 256 a call.   Clock: Redis TIME, for the entry only.
-- Retry:   goes on where the last call stopped.
-- Needs:   _records _work
-- Flags:   allow-oom
-- KEYS[1]  meta       hash    stock_epoch run_id seq
-- KEYS[2]  offers     hash    slot -> packed offer
-- KEYS[3]  buyers     hash    buyer -> packed records
-- KEYS[4]  outbox     stream  one entry a call; none where nothing moved
-- KEYS[5]  deadlines  zset    moved and granted deadlines, and one member a batch of new holds
-- KEYS[6]  wait       zset    slot << 40 | place -> slot 2, buyer 16, qty 2
-- KEYS[7]  guests     hash    slot 2, or slot 2 and addresses 4 -> units of guests
-- ARGV[1]  stock_epoch
-- ARGV[2]  run_id
-- Reply:   a, or the number of places that were given up; 0: nothing is left to do
-- Codes:   none
local meta_key, offers_key, buyers_key, outbox_key, deadlines_key, wait_key, guests_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local epoch, run = ARGV[1], ARGV[2]
local PLACES_MAX, OFFERS_MAX = 256, 1000
local now = open_work(epoch, run, meta_key, offers_key, buyers_key, outbox_key, deadlines_key,
  wait_key, guests_key)
if not now then return 'a' end

local low, places = 0, {}
for _ = 1, OFFERS_MAX do
  local first = call('ZRANGEBYSCORE', wait_key, score_text(low), '+inf', 'LIMIT', 0, 1)[1]
  if not first or #places > 0 then break end
  local slot = unpack_bytes('>H', first)
  local o = offer_of(slot)
  local high = '(' .. score_text((slot + 1) * 2 ^ 40)
  if o and o.phase >= CLOSING then
    local from = score_text(slot * 2 ^ 40)
    places = call('ZRANGEBYSCORE', wait_key, from, high, 'LIMIT', 0, PLACES_MAX)
  end
  low = (slot + 1) * 2 ^ 40
end
for i = 1, #places do
  local slot, buyer = unpack_bytes('>H', places[i]), sub(places[i], 3, 18)
  local p, s = find_waiting(value_of(buyer), slot)
  if p then end_waiting(buyer, p, s) end
  w.wait_drop[#w.wait_drop + 1] = places[i]
end
commit()
return #places
