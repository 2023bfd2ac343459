-- retake: the money of a hold came after its end; take the units again, or say that they are gone.
-- Keeps:   allotted = left + held + sold; the buyer's limit.
-- Cost:    O(records of the buyer).   Clock: Redis TIME.
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
-- ARGV[5]  lines that were paid: n 1, n x (slot 2, qty 2); they serve where the hold is not known
-- ARGV[6]  payment
-- Reply:   a, or {state, record, due}; done where the state is S; the record is empty for u
-- Codes:   S R E X W d u
local meta_key, offers_key, buyers_key, outbox_key, deadlines_key, wait_key, guests_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local refused_key, payment = KEYS[8], ARGV[6]
local epoch, run, buyer, key, asked = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now = open_work(epoch, run, meta_key, offers_key, buyers_key, outbox_key, deadlines_key,
  wait_key, guests_key, refused_key)
if not now then return 'a' end
if call('ZSCORE', refused_key, payment) then return { 'd', '', 0 } end

local value = value_of(buyer)
local p, n, s = find_record(value, key)
local state, record, lines = 'u', '', nil
if p then
  state, record, lines = sub(value, s, s), record_of(value, p, s), read_lines(value, p + 17, n)
  if not same_lines(sub(value, p + 16, s - 1), asked) then return { 'd', record, 0 } end
else
  n = byte(asked)
  lines = read_lines(asked, 2, n)
  value = make_room(value, lines, now, offers_key)
end
-- A cancelled order was paid once already; a waiter has nothing to take; what was refused once must
-- not be sold while its money goes back.
if state == 'S' or state == 'X' or state == 'W' then return { state, record, 0 } end
if (state == 'E' or state == 'R') and unpack_bytes('>I6', value, s + 1) == REFUSED then
  return { state, record, 0 }
end
local live = state == 'H' or state == 'P'
local refused, reserved = not value, 0 -- no value: no room for one more record
for i = 1, n do
  local slot, qty = lines[i][1], lines[i][2]
  local o = offer_of(slot)
  if not o then return 'a' end
  if o.reserved > 0 then reserved = 1 end
  -- Closing lets what was begun finish; after the closed entry nothing may be sold.
  if o.phase == CLOSED or o.phase == DRAFT then refused = true end
  local over = value and units_of(value, slot) + qty > o.limit
  if not live and (over or qty > left_for_new(o)) then refused = true end
end
if refused then
  return { state, record, call('ZCOUNT', deadlines_key, '-inf', now) + reserved }
end

if not p then
  p = #value + 1
  s = p + 17 + 4 * n
  value = value .. key .. asked .. 'E' .. NO_TIME
end
w.values[buyer] = value
for i = 1, n do
  local o, from = offer_of(lines[i][1]), live and 'held' or 'left'
  o[from], o.sold = o[from] - lines[i][2], o.sold + lines[i][2]
  if live then count_guest(buyer, lines[i][1], -lines[i][2]) end
end
forget_deadline(buyer, key)
record = set_state('T', buyer, p, s, 'S', 0)
commit()
return { 'S', record, 0 }
