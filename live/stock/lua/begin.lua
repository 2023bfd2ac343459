-- begin: a live hold starts to be paid; its deadline moves once, never closer.
-- Keeps:   units stay held.   Cost: O(records of the buyer).   Clock: Redis TIME.
-- Retry:   a paying hold answers P again; both of its deadlines stay.
-- Needs:   _records _work
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
-- ARGV[5]  window_ms
-- Reply:   a, or {status, record}; the record is empty for u
-- Codes:   P E R X S W u
local meta_key, offers_key, buyers_key, outbox_key, deadlines_key, wait_key, guests_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local epoch, run, buyer, key, window = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local now = open_work(epoch, run, meta_key, offers_key, buyers_key, outbox_key, deadlines_key,
  wait_key, guests_key)
if not now then return 'a' end

local value = value_of(buyer)
local p, n, s = find_record(value, key)
if not p then return { 'u', '' } end
local state, deadline = sub(value, s, s), unpack_bytes('>I6', value, s + 1)
if (state == 'H' or state == 'P') and not knows(read_lines(value, p + 17, n)) then return 'a' end
if state ~= 'H' then return { state, record_of(value, p, s) } end
-- Due but not reaped yet: the reaper will end it, and must find it held.
if deadline <= now then return { 'E', record_of(value, p, s) } end

local held_until = deadline
if now + window > deadline then deadline = now + window end
set_deadline(buyer, key, deadline)
local record = set_state('B', buyer, p, s, 'P', deadline, held_until)
commit()
return { 'P', record }
