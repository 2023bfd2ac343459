-- admit: decide whether one chat message may be published, and give it an id.
-- Keeps:   one pace per buyer and show, whatever the number of their connections and gateways.
-- Clock:   Redis TIME.   Cost: O(1).   Retry: a repeat counts as a second message.
-- KEYS[1]  bans    hash    "loaded" -> 1, buyer hex -> "<kind>:<until ms or 0>:<rank>" (up to
--                          three, by space)
-- KEYS[2]  pace    hash    tokens, at (ms), text (digest of the last one), said (ms); expires
-- KEYS[3]  recent  stream  the last messages: text, rank (of who wrote it)
-- KEYS[4]  flow    hash    second, lines (that went to everybody in it); expires
-- ARGV[1]  buyer hex       ARGV[2]  text
-- ARGV[3]  digest of the text, "": no duplicate filter
-- ARGV[4]  burst           ARGV[5]  ms a token    ARGV[6]  slow mode ms, 0: off
-- ARGV[7]  duplicate window ms                    ARGV[8]  recent messages to keep
-- ARGV[9]  lines a second that everybody gets, 0: this one goes to everybody whatever the number
-- ARGV[10] rank of who speaks: a restriction reaches those below the rank of who made it
-- Reply:   {code, detail}: "ok" id | "shadow" id | "sampled" id | "unloaded" | "ban" until
--          | "mute" until | "slow" wait ms | "rate" wait ms | "duplicate" wait ms
local bans_key, pace_key, recent_key, flow_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local buyer, text, digest = ARGV[1], ARGV[2], ARGV[3]
local burst, token_ms, slow_ms = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local duplicate_ms, recent_max, flow_max = tonumber(ARGV[7]), ARGV[8], tonumber(ARGV[9])
local rank = tonumber(ARGV[10])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local found = redis.call('HMGET', bans_key, 'loaded', buyer)
if not found[1] then
  return {'unloaded', '0'}
end
local shadow = false
for kind, till, by in string.gmatch(found[2] or '', '([a-z_]+):(%d+):(%d+)') do
  if rank < tonumber(by) and (till == '0' or tonumber(till) > now) then
    if kind == 'shadow_ban' then
      shadow = true
    else
      return {kind, till}
    end
  end
end

local pace = redis.call('HMGET', pace_key, 'tokens', 'at', 'text', 'said')
local said = tonumber(pace[4] or '0')
if slow_ms > 0 and now < said + slow_ms then
  return {'slow', tostring(said + slow_ms - now)}
end
if digest ~= '' and pace[3] == digest and now < said + duplicate_ms then
  return {'duplicate', tostring(said + duplicate_ms - now)}
end
local tokens = burst
if pace[1] then
  tokens = math.min(burst, tonumber(pace[1]) + (now - tonumber(pace[2])) / token_ms)
end
if tokens < 1 then
  return {'rate', tostring(math.ceil((1 - tokens) * token_ms))}
end

redis.call('HSET', pace_key, 'tokens', tostring(tokens - 1), 'at', tostring(now),
  'text', digest, 'said', tostring(now))
redis.call('PEXPIRE', pace_key, math.max(burst * token_ms, slow_ms, duplicate_ms) + 1000)
if shadow then
  -- Same form as a stream's id: the author must not see a difference.
  return {'shadow', tostring(now) .. '-0'}
end
if flow_max > 0 then
  local flow = redis.call('HMGET', flow_key, 'second', 'lines')
  local lines = flow[1] == time[1] and tonumber(flow[2]) or 0
  if lines >= flow_max then
    return {'sampled', tostring(now) .. '-0'}
  end
  redis.call('HSET', flow_key, 'second', time[1], 'lines', lines + 1)
  redis.call('PEXPIRE', flow_key, 2000)
end
local id =
  redis.call('XADD', recent_key, 'MAXLEN', '~', recent_max, '*', 'text', text, 'rank', rank)
return {'ok', id}
