-- leave: give up a place in an offer's waitlist.
-- Keeps:   allotted = left + held + sold; units that were reserved for them go on in line.
-- Cost:    O(records + waiters looked at).   Clock: Redis TIME.
-- Retry:   u, as for a buyer who never waited; nothing moves.
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
-- ARGV[3]  buyer
-- ARGV[4]  slot
-- Reply:   a, or Q (left) or u
-- Codes:   Q u
local meta_key, offers_key, buyers_key, outbox_key, deadlines_key, wait_key, guests_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local epoch, run, buyer, slot = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = open_work(epoch, run, meta_key, offers_key, buyers_key, outbox_key, deadlines_key,
  wait_key, guests_key)
if not now then return 'a' end

local value = value_of(buyer)
local p, s = find_waiting(value, slot)
if not p then return 'u' end
if not offer_of(slot) then return 'a' end
local qty = unpack_bytes('>H', value, p + 19)

call('ZREM', wait_key, wait_member(slot, buyer, qty)) -- at once: `grant` reads the line
end_waiting(buyer, p, s)
grant(slot)
commit()
return 'Q'
