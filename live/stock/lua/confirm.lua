-- confirm: a paying hold is sold, if it is for the units that were paid.
-- Keeps:   allotted = left + held + sold.
-- Cost:    O(records of the buyer).   Clock: Redis TIME, for the entry only.
-- Retry:   a sold hold answers S again; nothing moves.
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
-- ARGV[5]  lines that were paid: n 1, n x (slot 2, qty 2)
-- ARGV[6]  payment
-- Reply:   a, or {state, record}; done where the state is S; the record is empty for u
-- Codes:   S H E R X W d u
local meta_key, offers_key, buyers_key, outbox_key, deadlines_key, wait_key, guests_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local refused_key, payment = KEYS[8], ARGV[6]
local epoch, run, buyer, key, paid = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now = open_work(epoch, run, meta_key, offers_key, buyers_key, outbox_key, deadlines_key,
  wait_key, guests_key, refused_key)
if not now then return 'a' end
if call('ZSCORE', refused_key, payment) then return { 'd', '' } end

local value = value_of(buyer)
local p, n, s = find_record(value, key)
if not p then return { 'u', '' } end
local state = sub(value, s, s)
if not same_lines(sub(value, p + 16, s - 1), paid) then return { 'd', record_of(value, p, s) } end
-- A paying hold that is past its deadline still has its units until it is reaped, and money is on
-- its way.
if state ~= 'P' then return { state, record_of(value, p, s) } end
local lines = read_lines(value, p + 17, n)
if not knows(lines) then return 'a' end

for i = 1, n do
  local o = offer_of(lines[i][1])
  o.held, o.sold = o.held - lines[i][2], o.sold + lines[i][2]
  count_guest(buyer, lines[i][1], -lines[i][2])
end
forget_deadline(buyer, key)
local record = set_state('C', buyer, p, s, 'S', 0)
commit()
return { 'S', record }
