-- buyer: what one buyer holds and waits for.
-- Keeps:   writes nothing.   Cost: O(records of the buyer).   Clock: Redis TIME.
-- Retry:   harmless.
-- Needs:   _records
-- KEYS[1]  meta       hash    stock_epoch run_id seq
-- KEYS[2]  buyers     hash    buyer -> packed records
-- KEYS[3]  wait       zset    slot << 40 | place -> slot 2, buyer 16, qty 2
-- ARGV[1]  stock_epoch
-- ARGV[2]  run_id
-- ARGV[3]  buyer
-- Reply:   a, or {time, records, positions of the waiting records in their order...}
-- Codes:   none
local meta_key, buyers_key, wait_key = KEYS[1], KEYS[2], KEYS[3]
local epoch, run, buyer = ARGV[1], ARGV[2], ARGV[3]
if must_rebuild(meta_key, epoch, run, buyers_key, wait_key) then return 'a' end

local value = call('HGET', buyers_key, buyer) or ''
local reply, p = { clock(), value }, 1
while p <= #value do
  local s = p + 17 + 4 * byte(value, p + 16)
  if byte(value, s) == 87 then
    local low = unpack_bytes('>H', value, p + 17) * 2 ^ 40
    local place = string.format('%.0f', low + unpack_bytes('>I6', value, s + 1))
    reply[#reply + 1] = call('ZCOUNT', wait_key, string.format('%.0f', low), '(' .. place) + 1
  end
  p = behind(value, s)
end
return reply
