-- sell: units go to a buyer who has paid, without a hold (first_paid).
-- Keeps:   allotted = left + held + sold.   Cost: O(records of the buyer).   Clock: Redis TIME.
-- Retry:   a sold key answers s; stock moves once.
-- Needs:   _records _work
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
-- ARGV[5]  lines: n 1, n x (slot 2, qty 2)
-- ARGV[6]  payment
-- Reply:   a, or {status, slot, left, due}; the slot is the first that fails, or the first line's
-- Codes:   S s t e r w d n i c l o k m u
local meta_key, offers_key, buyers_key, outbox_key, deadlines_key, wait_key, guests_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local refused_key, payment = KEYS[8], ARGV[6]
local epoch, run, buyer, key, asked = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now = open_work(epoch, run, meta_key, offers_key, buyers_key, outbox_key, deadlines_key,
  wait_key, guests_key, refused_key)
if not now then return 'a' end
if call('ZSCORE', refused_key, payment) then return { 'd', 0, 0, 0 } end

local value, n = value_of(buyer), byte(asked)
local lines = read_lines(asked, 2, n)
local first = offer_of(lines[1][1])
local p, m, s = find_record(value, key)
if p then
  local status = repeat_status(value, p, m, s, asked, now)
  return { status, lines[1][1], first and first.left or 0, 0 }
end
if not first then return { 'u', lines[1][1], 0, 0 } end
for i = 1, n do
  local slot, qty = lines[i][1], lines[i][2]
  local o = offer_of(slot)
  local status = not o and 'u' or (o.mode ~= FIRST_PAID and 'm') or refusal(o, now)
  if not status and qty + units_of(value, slot) > o.limit then status = 'l' end
  if not status and qty > o.left then status = 'o' end
  if status then
    local wanting = status == 'l' or status == 'o'
    local due = wanting and call('ZCOUNT', deadlines_key, '-inf', now) or 0
    return { status, slot, o and o.left or 0, due }
  end
end
local roomy = make_room(value, lines, now, offers_key)
if not roomy then
  return { 'k', lines[1][1], first.left, call('ZCOUNT', deadlines_key, '-inf', now) }
end

for i = 1, n do
  local o = offer_of(lines[i][1])
  o.left, o.sold = o.left - lines[i][2], o.sold + lines[i][2]
end
local record = key .. asked .. 'S' .. NO_TIME
w.values[buyer] = roomy .. record
move('S', buyer, record)
commit()
return { 'S', lines[1][1], first.left, 0 }
