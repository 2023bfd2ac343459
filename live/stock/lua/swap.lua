-- swap: put a rebuilt show in place of what is there, if it is a newer life of it.
-- Keeps:   the outbox and its group; the epoch only grows; a rebuild that began later goes before.
-- Cost:    O(1), old data is freed in the background.   Clock: none.
-- Retry:   the same epoch again answers 0 and changes nothing.
-- Needs:   nothing
-- KEYS[1]  meta       hash    stock_epoch run_id seq offers fence
-- KEYS[2]  offers     hash    slot -> packed offer
-- KEYS[3]  buyers     hash    buyer -> packed records
-- KEYS[4]  outbox     stream  kept; made with its group where it is missing
-- KEYS[5]  deadlines  zset    one member a hold
-- KEYS[6]  wait       zset    slot << 40 | place -> slot 2, buyer 16, qty 2
-- KEYS[7]  guests     hash    slot 2, or slot 2 and addresses 4 -> units of guests
-- KEYS[8]  refused    zset    kept: payments whose money goes back
-- KEYS[9]  staged offers
-- KEYS[10] staged buyers
-- KEYS[11] staged deadlines
-- KEYS[12] staged wait
-- KEYS[13] staged guests
-- ARGV[1]  stock_epoch
-- ARGV[2]  run_id
-- ARGV[3]  group
-- ARGV[4]  longest hold time in s
-- ARGV[5]  first free place: the counter of seq starts behind every place in a waitlist
-- ARGV[6]  fence of the rebuild, or 0 for who has none
-- Reply:   1 (swapped in) or 0 (the show is in this life or a later one already, or will be)
-- Codes:   none
local meta_key, offers_key, buyers_key, outbox_key, deadlines_key, wait_key, guests_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local refused_key = KEYS[8]
local staged_offers, staged_buyers, staged_deadlines, staged_wait, staged_guests =
  KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13]
local epoch, run, group, ttl_max, seq = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local fence = ARGV[6]
local meta = redis.call('HMGET', meta_key, 'stock_epoch', 'fence')
local newer = fence ~= '0' and meta[2] and tonumber(meta[2]) > tonumber(fence)
if newer or (meta[1] and tonumber(meta[1]) >= tonumber(epoch)) then
  redis.call('UNLINK', staged_offers, staged_buyers, staged_deadlines, staged_wait, staged_guests)
  return 0
end
local function replace(staged, live)
  redis.call('UNLINK', live)
  if redis.call('EXISTS', staged) == 1 then
    redis.call('RENAME', staged, live)
    redis.call('PERSIST', live) -- staged data ends by itself, live data must not
  end
end
replace(staged_offers, offers_key)
replace(staged_buyers, buyers_key)
replace(staged_deadlines, deadlines_key)
replace(staged_wait, wait_key)
replace(staged_guests, guests_key)
-- By its mark each key is told from one that was lost and began anew.
redis.call('HSET', buyers_key, 'mark', 1)
redis.call('ZADD', deadlines_key, '+inf', 'mark')
redis.call('ZADD', wait_key, -1, 'mark')
redis.call('HSET', guests_key, 'mark', 1)
redis.call('ZADD', refused_key, '+inf', 'mark')
redis.pcall('XGROUP', 'CREATE', outbox_key, group, '0', 'MKSTREAM')
redis.call('HSET', meta_key, 'stock_epoch', epoch, 'run_id', run, 'seq', seq,
  'offers', redis.call('HLEN', offers_key), 'ttl_max', ttl_max)
redis.call('PERSIST', meta_key) -- of a show that was about to leave Redis
redis.call('PERSIST', outbox_key)
redis.call('PERSIST', refused_key)
return 1
