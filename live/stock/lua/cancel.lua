-- cancel: a sold hold gives its units back, because its capture was refused for good; waiters come
--   first. Nothing is sold for that payment again, though the key be forgotten.
-- Keeps:   allotted = left + held + sold.
-- Cost:    O(records + waiters looked at).   Clock: Redis TIME.
-- Retry:   a cancelled hold answers X again; nothing moves.
-- Needs:   _records _work
-- Flags:   allow-oom
-- KEYS[1]  meta       hash    stock_epoch run_id seq
-- KEYS[2]  offers     hash    slot -> packed offer
-- KEYS[3]  buyers     hash    buyer -> packed records
-- KEYS[4]  outbox     stream  one entry a call; none where nothing moved
-- KEYS[5]  deadlines  zset    moved and granted deadlines, and one member a batch of new holds
-- KEYS[6]  wait       zset    slot << 40 | place -> slot 2, buyer 16, qty 2
-- KEYS[7]  guests     hash    slot 2, or slot 2 and addresses 4 -> units of guests
-- KEYS[8]  refused    zset    payments whose money goes back -> until when that is remembered
-- ARGV[1]  stock_epoch
-- ARGV[2]  run_id
-- ARGV[3]  buyer
-- ARGV[4]  key
-- ARGV[5]  payment; empty: there is none
-- Reply:   a, or {state, record, moved}; done where the state is X; the record is empty for u
-- Codes:   X H P R E W u
local meta_key, offers_key, buyers_key, outbox_key, deadlines_key, wait_key, guests_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local refused_key, payment = KEYS[8], ARGV[5]
local epoch, run, buyer, key = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now = open_work(epoch, run, meta_key, offers_key, buyers_key, outbox_key, deadlines_key,
  wait_key, guests_key, refused_key)
if not now then return 'a' end

if payment ~= '' then call('ZADD', refused_key, now + LATE_MONEY_MS, payment) end
local value = value_of(buyer)
local p, n, s = find_record(value, key)
if not p then return { 'u', '', 0 } end
local state = sub(value, s, s)
if state ~= 'S' then return { state, record_of(value, p, s), 0 } end
local lines = read_lines(value, p + 17, n)
if not knows(lines) then return 'a' end

free_units(buyer, lines, 'sold')
local record = set_state('X', buyer, p, s, 'X', 0)
grant_lines(lines)
return { 'X', record, commit() }
