-- look: would join give this buyer units of an offer, or a place in its waitlist? Asked before the
--   wish is written into the ledger, so that a refused one leaves nothing there.
-- Keeps:   writes nothing.   Cost: O(records of the buyer).   Clock: Redis TIME.
-- Retry:   harmless.
-- Needs:   _records _work
-- KEYS[1]  meta       hash    stock_epoch run_id seq
-- KEYS[2]  offers     hash    slot -> packed offer
-- KEYS[3]  buyers     hash    buyer -> packed records
-- KEYS[4]  outbox     stream  named as for all scripts of single holds
-- KEYS[5]  deadlines  zset    to see whether units are about to come free
-- KEYS[6]  wait       zset    named as for all scripts of single holds
-- KEYS[7]  guests     hash    slot 2, or slot 2 and addresses 4 -> units of guests
-- ARGV[1]  stock_epoch
-- ARGV[2]  run_id
-- ARGV[3]  buyer
-- ARGV[4]  key
-- ARGV[5]  line: n 1 (always 1), slot 2, qty 2
-- Reply:   a, or {status, due}; y: yes, or the key is known
-- Codes:   y n c l k g m u
local meta_key, offers_key, buyers_key, outbox_key, deadlines_key, wait_key, guests_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local epoch, run, buyer, key, asked = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now = open_work(epoch, run, meta_key, offers_key, buyers_key, outbox_key, deadlines_key,
  wait_key, guests_key)
if not now then return 'a' end

local value = value_of(buyer)
if find_record(value, key) then return { 'y', 0 } end -- join tells what became of it
local slot, qty = unpack_bytes('>HH', asked, 2)
local o = offer_of(slot)
if not o then return { 'u', 0 } end
local status, wanting = line_refusal(o, buyer, value, slot, qty)
if not status or status == 'i' then return { 'y', 0 } end
return { status, wanting and call('ZCOUNT', deadlines_key, '-inf', now) or 0 }
