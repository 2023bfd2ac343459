-- join: take the units at once where they are there, else a place in the offer's waitlist.
-- Keeps:   one place per buyer and offer; allotted = left + held + sold.
-- Cost:    O(records + log waiters).   Clock: Redis TIME.
-- Retry:   a repeated (buyer, key) gets its present position, or what became of it; another key of
--          a buyer who waits already, the position that they have.
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
-- ARGV[5]  line: n 1 (always 1), slot 2, qty 2
-- Reply:   a, or {status, position, deadline, due}
-- Codes:   H W t e r s d n c l k g o m u
local meta_key, offers_key, buyers_key, outbox_key, deadlines_key, wait_key, guests_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local epoch, run, buyer, key, asked = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now = open_work(epoch, run, meta_key, offers_key, buyers_key, outbox_key, deadlines_key,
  wait_key, guests_key)
if not now then return 'a' end

local value = value_of(buyer)
local slot, qty = unpack_bytes('>HH', asked, 2)
local function position(place)
  return call('ZCOUNT', wait_key, score_text(slot * 2 ^ 40), '(' .. score_text(place)) + 1
end
local p, n, s = find_record(value, key)
if p then
  local status = repeat_status(value, p, n, s, asked, now)
  local time = unpack_bytes('>I6', value, s + 1)
  if status == 'w' then return { 'W', position(slot * 2 ^ 40 + time), 0, 0 } end
  return { status, 0, time, 0 }
end
p, s = find_waiting(value, slot)
if p then -- their other window, or phone
  return { 'W', position(slot * 2 ^ 40 + unpack_bytes('>I6', value, s + 1)), 0, 0 }
end
local o = offer_of(slot)
if not o then return { 'u', 0, 0, 0 } end
local status, wanting, roomy = line_refusal(o, buyer, value, slot, qty)
if status and status ~= 'i' then
  return { status, 0, 0, wanting and call('ZCOUNT', deadlines_key, '-inf', now) or 0 }
end
p, s = #roomy + 1, #roomy + 22
w.values[buyer] = roomy .. key .. asked .. 'W' .. NO_TIME

if not status and qty <= left_for_new(o) then
  local deadline = now + o.ttl * 1000
  o.left, o.held = o.left - qty, o.held + qty
  count_guest(buyer, slot, qty)
  set_deadline(buyer, key, deadline)
  set_state('G', buyer, p, s, 'H', deadline)
  commit()
  return { 'H', 0, deadline, 0 }
end
local due = call('ZCOUNT', deadlines_key, '-inf', now) + (o.reserved > 0 and 1 or 0)
if o.waitlist == 0 then return { 'o', 0, 0, due } end
local place = tonumber(call('HGET', meta_key, 'seq') or 0) + 1
local score = slot * 2 ^ 40 + place
w.wait_add = { score_text(score), wait_member(slot, buyer, qty) }
count_guest(buyer, slot, qty)
set_state('W', buyer, p, s, 'W', place)
commit()
return { 'W', position(score), 0, due }
