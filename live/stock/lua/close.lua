-- close: write the closed entry of every closing offer of which nothing is held and for which
--   nobody waits.
-- Keeps:   nothing of an offer is sold behind its closed entry.
-- Cost:    O(offers).   Clock: Redis TIME, for the entry only.
-- Retry:   a closed offer is passed over.
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
-- Reply:   a, or the number of closed entries
-- Codes:   none
local meta_key, offers_key, buyers_key, outbox_key, deadlines_key, wait_key, guests_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local epoch, run = ARGV[1], ARGV[2]
local now = open_work(epoch, run, meta_key, offers_key, buyers_key, outbox_key, deadlines_key,
  wait_key, guests_key)
if not now then return 'a' end

local stored, closed = call('HGETALL', offers_key), 0
for i = 1, #stored, 2 do
  local slot, o = unpack_bytes('>H', stored[i]), read_offer(stored[i + 1])
  if o.phase == CLOSING and o.held == 0 then
    local low, high = score_text(slot * 2 ^ 40), '(' .. score_text((slot + 1) * 2 ^ 40)
    if call('ZCOUNT', wait_key, low, high) == 0 then
      o.phase = CLOSED
      w.offers[slot] = o
      closed = closed + 1
      move('Y', rep('\0', 16), rep('\0', 16) .. pack('>BHH', 1, slot, 0) .. 'Y' .. NO_TIME)
    end
  end
end
commit()
return closed
