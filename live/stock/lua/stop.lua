-- stop: from now on every script answers "rebuilding" for this show, until a newer life is swapped
--   in.
-- Keeps:   all data, so the outbox can be read to its end.   Cost: O(1).   Clock: none.
-- Retry:   harmless.
-- Needs:   nothing
-- KEYS[1]  meta       hash    stock_epoch run_id seq
-- Reply:   1
-- Codes:   none
local meta_key = KEYS[1]
redis.call('HDEL', meta_key, 'run_id')
return 1
