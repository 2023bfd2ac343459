-- reap: end what is due, give its units back, and grant what waiters may have.
-- Keeps:   allotted = left + held + sold.
-- Cost:    O(holds looked at), <= 1,023 a call.   Clock: Redis TIME.
-- Retry:   ends each hold once; a repeat goes on where the last call stopped.
-- Needs:   _records _work
-- Flags:   allow-oom
-- KEYS[1]  meta       hash    stock_epoch run_id seq offers
-- KEYS[2]  offers     hash    slot -> packed offer
-- KEYS[3]  buyers     hash    buyer -> packed records
-- KEYS[4]  outbox     stream  one entry a call; none where nothing moved
-- KEYS[5]  deadlines  zset    moved and granted deadlines, and one member a batch of new holds
-- KEYS[6]  wait       zset    slot << 40 | place -> slot 2, buyer 16, qty 2
-- KEYS[7]  guests     hash    slot 2, or slot 2 and addresses 4 -> units of guests
-- ARGV[1]  stock_epoch
-- ARGV[2]  run_id
-- Reply:   a, or {movements, more, lost}; more is 1 where due holds or grants remain, lost is 1
--          where an offer was lost: its holds stay as they are and come back with a rebuild
-- Codes:   none
local meta_key, offers_key, buyers_key, outbox_key, deadlines_key, wait_key, guests_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local epoch, run = ARGV[1], ARGV[2]
local HOLDS_MAX, OFFERS_MAX = 512, 1000
local now = open_work(epoch, run, meta_key, offers_key, buyers_key, outbox_key, deadlines_key,
  wait_key, guests_key)
if not now then return 'a' end

-- A member is one hold ('h' buyer key) or one batch of new holds ('b' entry ' ' hold time).
local due = call('ZRANGEBYSCORE', deadlines_key, '-inf', now, 'LIMIT', 0, HOLDS_MAX)
local buyers, keys, k, taken = {}, {}, 0, 0
for i = 1, #due do
  if k >= HOLDS_MAX then break end
  taken = i
  if byte(due[i]) == 104 then
    k = k + 1
    buyers[k], keys[k] = sub(due[i], 2, 17), sub(due[i], 18, 33)
  else
    local id = string.match(due[i], '^b(%S+)')
    local entry = call('XRANGE', outbox_key, id, id)[1]
    if entry then
      local statuses, blob, p = entry[2][4], entry[2][6], 1
      for j = 1, #statuses do
        if byte(statuses, j) == 72 then
          k = k + 1
          buyers[k], keys[k] = sub(blob, p, p + 15), sub(blob, p + 16, p + 31)
        end
        p = p + 33 + 4 * byte(blob, p + 32)
      end
    end
  end
  w.drop[#w.drop + 1] = due[i]
end

if k > 0 then
  local stored = call('HMGET', buyers_key, unpack(buyers))
  for i = 1, k do w.values[buyers[i]] = w.values[buyers[i]] or stored[i] or '' end
end
local seen, slots = {}, {}
local function look_at(slot)
  if not seen[slot] then
    seen[slot] = true
    slots[#slots + 1] = slot
  end
end
for i = 1, k do
  local buyer = buyers[i]
  local value = w.values[buyer]
  local p, n, s = find_record(value, keys[i])
  local state = p and sub(value, s, s)
  if (state == 'H' or state == 'P') and unpack_bytes('>I6', value, s + 1) <= now then
    local lines = read_lines(value, p + 17, n)
    if knows(lines) then
      free_units(buyer, lines, 'held')
      set_state('E', buyer, p, s, 'E', state == 'P' and now + LATE_MONEY_MS or 0)
      for j = 1, n do look_at(lines[j][1]) end
    end
  end
end

-- Beside those, every offer that somebody waits for: no other can have units reserved, and `grant`
-- passes over the ones that have none.
local low = 0
for _ = 1, OFFERS_MAX do
  local first = call('ZRANGEBYSCORE', wait_key, score_text(low), '+inf', 'LIMIT', 0, 1)[1]
  if not first then break end
  local slot = unpack_bytes('>H', first)
  look_at(slot)
  low = (slot + 1) * 2 ^ 40
end
local more = taken < #due and 1 or 0
for i = 1, #slots do
  if offer_of(slots[i]) and grant(slots[i]) then more = 1 end
end
return { commit(), more, lacks_offers(meta_key, offers_key) and 1 or 0 }
