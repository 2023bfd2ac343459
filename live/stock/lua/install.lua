-- install: make a fresh show known to this server; never takes over one that another run or life
--   left behind, nor what is left of one whose head was lost.
-- Keeps:   an existing show.   Cost: O(1).   Clock: none.
-- Retry:   answers 1 again for the same epoch and run.
-- Needs:   nothing
-- KEYS[1]  meta       hash    stock_epoch run_id seq offers
-- KEYS[2]  outbox     stream  made empty with its consumer group
-- KEYS[3]  buyers     hash    gets its mark, by which a loss of this key alone is seen
-- KEYS[4]  deadlines  zset    the same
-- KEYS[5]  wait       zset    the same
-- KEYS[6]  guests     hash    the same
-- KEYS[7]  refused    zset    the same
-- KEYS[8]  offers     hash    not there yet
-- ARGV[1]  stock_epoch
-- ARGV[2]  run_id
-- ARGV[3]  group
-- Reply:   1 (installed) or 0 (this show needs a rebuild)
-- Codes:   none
local meta_key, outbox_key, buyers_key, deadlines_key, wait_key, guests_key, refused_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local offers_key = KEYS[8]
local epoch, run, group = ARGV[1], ARGV[2], ARGV[3]
local meta = redis.call('HMGET', meta_key, 'stock_epoch', 'run_id')
if meta[1] then return meta[1] == epoch and meta[2] == run and 1 or 0 end
local left = redis.call('EXISTS', outbox_key, buyers_key, deadlines_key, wait_key, guests_key,
  refused_key, offers_key)
if left > 0 then return 0 end
redis.pcall('XGROUP', 'CREATE', outbox_key, group, '0', 'MKSTREAM')
redis.call('HSET', buyers_key, 'mark', 1)
redis.call('ZADD', deadlines_key, '+inf', 'mark')
redis.call('ZADD', wait_key, -1, 'mark')
redis.call('HSET', guests_key, 'mark', 1)
redis.call('ZADD', refused_key, '+inf', 'mark')
redis.call('HSET', meta_key, 'stock_epoch', epoch, 'run_id', run, 'seq', 0, 'offers', 0,
  'ttl_max', 0)
return 1
