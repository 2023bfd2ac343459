-- peek: could these units be sold to this buyer for this key now? Asked before money is touched
--   (first_paid).
-- Keeps:   writes nothing.   Cost: O(records of the buyer).   Clock: Redis TIME.
-- Retry:   harmless.
-- Needs:   _records
-- KEYS[1]  meta       hash    stock_epoch run_id seq
-- KEYS[2]  offers     hash    slot -> packed offer
-- KEYS[3]  buyers     hash    buyer -> packed records
-- KEYS[4]  deadlines  zset    to see whether units are about to come free
-- ARGV[1]  stock_epoch
-- ARGV[2]  run_id
-- ARGV[3]  buyer
-- ARGV[4]  key
-- ARGV[5]  lines: n 1, n x (slot 2, qty 2)
-- Reply:   a, or {status, slot, left, due}; the slot is the first that fails, or the first line's
-- Codes:   H s t e r w d n i c l o k m u
local meta_key, offers_key, buyers_key, deadlines_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, run, buyer, key, asked = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if must_rebuild(meta_key, epoch, run, buyers_key, deadlines_key) then return 'a' end
local now = clock()

local value = call('HGET', buyers_key, buyer) or ''
local lines, first_left = read_lines(asked, 2, byte(asked)), 0
local p, m, s = find_record(value, key)
if p then return { repeat_status(value, p, m, s, asked, now), lines[1][1], 0, 0 } end
for i = 1, #lines do
  local slot, qty = lines[i][1], lines[i][2]
  local stored = call('HGET', offers_key, pack('>H', slot))
  if not stored then return { 'u', slot, 0, 0 } end
  local o = read_offer(stored)
  local status = o.mode ~= FIRST_PAID and 'm' or refusal(o, now)
  if not status and qty + units_of(value, slot) > o.limit then status = 'l' end
  if not status and qty > o.left then status = 'o' end
  if status then
    local wanting = status == 'l' or status == 'o'
    return { status, slot, o.left, wanting and call('ZCOUNT', deadlines_key, '-inf', now) or 0 }
  end
  if i == 1 then first_left = o.left end
end
-- sell would find no room for one more record of this buyer.
if not make_room(value, lines, now, offers_key) then
  return { 'k', lines[1][1], first_left, call('ZCOUNT', deadlines_key, '-inf', now) }
end
return { 'H', lines[1][1], first_left, 0 }
