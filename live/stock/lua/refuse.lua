-- refuse: this payment's money goes back: nothing may be sold for it any more, whatever becomes of
--   the record that it was for.
-- Keeps:   stock, and every record that is live or sold.
-- Cost:    O(records of the buyer).   Clock: Redis TIME, for room only.
-- Retry:   harmless.
-- Needs:   _records
-- Flags:   allow-oom
-- KEYS[1]  meta       hash    stock_epoch run_id seq
-- KEYS[2]  offers     hash    slot -> packed offer
-- KEYS[3]  buyers     hash    buyer -> packed records
-- KEYS[4]  refused    zset    payments whose money goes back -> until when that is remembered
-- ARGV[1]  stock_epoch
-- ARGV[2]  run_id
-- ARGV[3]  buyer
-- ARGV[4]  key
-- ARGV[5]  lines that were paid: n 1, n x (slot 2, qty 2)
-- ARGV[6]  payment
-- Reply:   a, or {state, record}; S with these lines: it is sold, so the money must stay
-- Codes:   S H P E R X W d u
local meta_key, offers_key, buyers_key, refused_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, run, buyer, key, paid, payment =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if must_rebuild(meta_key, epoch, run, buyers_key, refused_key) then return 'a' end
local now = clock()

local value = call('HGET', buyers_key, buyer) or ''
local p, _, s = find_record(value, key)
local same = p and same_lines(sub(value, p + 16, s - 1), paid)
if same and sub(value, s, s) == 'S' then return { 'S', record_of(value, p, s) } end
call('ZREMRANGEBYSCORE', refused_key, '-inf', now)
call('ZADD', refused_key, now + LATE_MONEY_MS, payment)
if not p then
  -- The ledger's void job says the same; this one stops a call that is on its way to sell.
  local roomy = make_room(value, read_lines(paid, 2, byte(paid)), now, offers_key)
  if not roomy then return { 'u', '' } end
  call('HSET', buyers_key, buyer, roomy .. key .. paid .. 'R' .. pack('>I6', REFUSED))
  return { 'u', '' }
end
local state = sub(value, s, s)
if not same then return { 'd', record_of(value, p, s) } end
if state == 'E' or state == 'R' then
  value = sub(value, 1, s) .. pack('>I6', REFUSED) .. sub(value, s + 7)
  call('HSET', buyers_key, buyer, value)
end
return { state, record_of(value, p, s) }
