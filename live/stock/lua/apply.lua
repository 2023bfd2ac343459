-- apply: take over what a host decided about one offer; left moves by the difference of what is
--   allotted.
-- Keeps:   allotted = left + held + sold; an older or equal version changes nothing.
-- Cost:    O(waiters looked at).   Clock: Redis TIME.
-- Retry:   the same version again answers the present figures.
-- Needs:   _records _work
-- Flags:   allow-oom
-- KEYS[1]  meta       hash    stock_epoch run_id seq offers
-- KEYS[2]  offers     hash    slot -> packed offer
-- KEYS[3]  buyers     hash    buyer -> packed records
-- KEYS[4]  outbox     stream  one entry a call; none where nothing moved
-- KEYS[5]  deadlines  zset    moved and granted deadlines, and one member a batch of new holds
-- KEYS[6]  wait       zset    slot << 40 | place -> slot 2, buyer 16, qty 2
-- KEYS[7]  guests     hash    slot 2, or slot 2 and addresses 4 -> units of guests
-- ARGV[1]  stock_epoch
-- ARGV[2]  run_id
-- ARGV[3]  slot
-- ARGV[4]  packed offer; its left carries the allotted units, held and sold are 0
-- Reply:   a (an unknown offer is no new one where offers were lost, too), or {left, held, sold}
-- Codes:   none
local meta_key, offers_key, buyers_key, outbox_key, deadlines_key, wait_key, guests_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local epoch, run, slot, packed = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local now = open_work(epoch, run, meta_key, offers_key, buyers_key, outbox_key, deadlines_key,
  wait_key, guests_key)
if not now then return 'a' end

local new, old = read_offer(packed), offer_of(slot)
if old and new.version <= old.version then return { old.left, old.held, old.sold } end

if not old then
  if lacks_offers(meta_key, offers_key) then return 'a' end
  call('HINCRBY', meta_key, 'offers', 1)
end
local was = old and old.phase or DRAFT
if old then
  new.held, new.sold = old.held, old.sold
  new.left = new.left - old.held - old.sold
end
new.reserved = HEAD_OF_LINE
-- What the closed entry promised stays true: nothing opens again behind it.
if was == CLOSED then new.phase = CLOSED end
w.offers[slot] = new
if new.phase == CLOSING and was ~= CLOSING then
  move('Z', rep('\0', 16), rep('\0', 16) .. pack('>BHH', 1, slot, 0) .. 'Z' .. NO_TIME)
end
grant(slot)
local longest = tonumber(call('HGET', meta_key, 'ttl_max') or 0)
if new.ttl > longest then call('HSET', meta_key, 'ttl_max', new.ttl) end
commit()
return { new.left, new.held, new.sold }
