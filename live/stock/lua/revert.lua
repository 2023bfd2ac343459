-- revert: the payment of a hold failed; it is held again, until the deadline that it had before.
-- Keeps:   units stay held; no deadline is later than before the payment.
-- Cost:    O(records of the buyer).   Clock: Redis TIME, for the entry only.
-- Retry:   a hold that is held again answers H; nothing moves.
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
-- ARGV[4]  key
-- ARGV[5]  held_until, in ms, as begin answered it; a later one than Redis remembers is ignored
-- Reply:   a, or {state, record}; done where the state is H; the record is empty for u
-- Codes:   H S R E X W u
local meta_key, offers_key, buyers_key, outbox_key, deadlines_key, wait_key, guests_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local epoch, run, buyer, key, held_until = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local now = open_work(epoch, run, meta_key, offers_key, buyers_key, outbox_key, deadlines_key,
  wait_key, guests_key)
if not now then return 'a' end

local value = value_of(buyer)
local p, n, s = find_record(value, key)
if not p then return { 'u', '' } end
local state = sub(value, s, s)
if state == 'E' and awaits_money(value, s, now) then -- no money comes any more: it may be forgotten
  value = sub(value, 1, s) .. NO_TIME .. sub(value, s + 7)
  call('HSET', buyers_key, buyer, value)
end
if state ~= 'P' then return { state, record_of(value, p, s) } end
if not knows(read_lines(value, p + 17, n)) then return 'a' end

-- A deadline that has passed meanwhile is left to the reaper, which ends holds and tells their
-- buyers.
local deadline = math.min(held_until, (unpack_bytes('>I6', value, s + 7)))
set_deadline(buyer, key, deadline)
local record = set_state('V', buyer, p, s, 'H', deadline)
commit()
return { 'H', record }
