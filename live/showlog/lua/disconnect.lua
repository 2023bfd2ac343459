-- disconnect: keep who has to be closed everywhere, and announce it to all gateways.
-- Keeps:   at most ARGV[2] entries, none longer than ARGV[3] ms after the last one.
-- Retry:   harmless: who is closed already is not closed twice.
-- Cost:    O(1).   Clock: Redis TIME, in ids.
-- Flags:   allow-oom
-- KEYS[1]  disconnects   stream  m message          KEYS[2]  control  pub/sub channel
-- ARGV[1]  message         ARGV[2]  entries to keep         ARGV[3]  ms to keep
-- Reply:   the entry's id
local disconnects_key, control_key = KEYS[1], KEYS[2]
local message, keep, keep_ms = ARGV[1], ARGV[2], ARGV[3]
local id = redis.call('XADD', disconnects_key, 'MAXLEN', keep, '*', 'm', message)
redis.call('PEXPIRE', disconnects_key, keep_ms)
redis.call('SPUBLISH', control_key, id .. ' ' .. message)
return id
