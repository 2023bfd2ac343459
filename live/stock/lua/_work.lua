-- _work: the unit of work of a script that changes single holds: read, change in memory, write once
--   in `commit`.
-- Needs _records in front. The script names its keys and calls `open_work` before anything else.
-- 2,048 waiters are looked at for one offer in one call: 0.4 ms at worst.
local GRANT_PAGE, LOOKS_MAX = 64, 2048
local GRANTS_MAX = 64 -- grants of one offer in one call: restocking for thousands goes in steps
local GRANTS_A_CALL_MAX = 512 -- of all its offers
local w = {
  served = 0, values = {}, offers = {}, stored = {}, moves = {},
  add = {}, drop = {}, wait_add = {}, wait_drop = {}, guests = {},
}

-- Begin; with the keys of the script behind those that all have. Returns the time, or nil where the
-- show must be rebuilt and the script answers a.
local function open_work(epoch, run, meta_key, offers_key, buyers_key, outbox_key, deadlines_key,
  wait_key, guests_key, ...)
  if must_rebuild(meta_key, epoch, run, buyers_key, outbox_key, deadlines_key, wait_key, guests_key,
    ...) then return nil end
  w.epoch, w.now = tonumber(epoch), clock()
  w.meta, w.offers_key, w.buyers, w.outbox = meta_key, offers_key, buyers_key, outbox_key
  w.deadlines, w.wait, w.guests_key = deadlines_key, wait_key, guests_key
  return w.now
end

local function value_of(buyer)
  local value = w.values[buyer]
  if value == nil then
    value = call('HGET', w.buyers, buyer) or ''
    w.values[buyer] = value
  end
  return value
end

-- The offer in a slot, or nil where Redis does not know it.
local function offer_of(slot)
  local o = w.offers[slot]
  if o == nil then
    local value = call('HGET', w.offers_key, pack('>H', slot))
    if not value then return nil end
    o = read_offer(value)
    w.offers[slot], w.stored[slot] = o, value
  end
  return o
end

-- Whether Redis knows the offers of all lines. Where one is lost, a script answers a and writes
-- nothing: what it cannot count must not move.
local function knows(lines)
  for i = 1, #lines do if not offer_of(lines[i][1]) then return false end end
  return true
end

local function move(kind, buyer, record)
  w.moves[#w.moves + 1] = kind .. buyer .. record
end

-- Give the record at p another state and time (and held_until, where it pays now); tells the
-- outbox. Returns the record. Units are the caller's business.
local function set_state(kind, buyer, p, s, state, time, held_until)
  local value = w.values[buyer]
  local record = sub(value, p, s - 1) .. state .. pack('>I6', time)
  if held_until then record = record .. pack('>I6', held_until) end
  w.values[buyer] = sub(value, 1, p - 1) .. record .. sub(value, behind(value, s))
  move(kind, buyer, record)
  return record
end

-- Count units that a guest has got (or, below zero, has no more); nothing for others.
local function count_guest(buyer, slot, units)
  if not is_guest(buyer) then return end
  local all, near = guest_fields(buyer, slot)
  w.guests[all] = (w.guests[all] or 0) + units
  w.guests[near] = (w.guests[near] or 0) + units
end

-- Whether this buyer may have so many units of the offer, where it is a guest.
local function guest_fits(buyer, slot, o, qty)
  if not is_guest(buyer) then return true end
  local all, near = guest_fields(buyer, slot)
  local counts = call('HMGET', w.guests_key, all, near)
  return guests_may(o.left + o.held + o.sold, o.limit, tonumber(counts[1] or 0),
    tonumber(counts[2] or 0), qty)
end

-- Why this buyer gets neither units of an offer nor a place in its line, or nil; i: no units now,
-- but a place, because a host who pauses means to go on. With it whether a hold that is due may
-- stand in the way, and their value with room for one more record, where there is.
local function line_refusal(o, buyer, value, slot, qty)
  local status = o.mode ~= HOLD_MODE and 'm' or refusal(o, w.now)
  if status and status ~= 'i' then return status, false end
  local roomy = make_room(value, { { slot, qty } }, w.now, w.offers_key)
  status = (units_of(value, slot) + qty > o.limit and 'l') or (not roomy and 'k')
    or (not guest_fits(buyer, slot, o, qty) and 'g') or status
  return status, true, roomy
end

-- Take a waiter's record at p away; tells the outbox. His place in the line is the caller's
-- business.
local function end_waiting(buyer, p, s)
  local value = w.values[buyer]
  local slot, qty = unpack_bytes('>HH', value, p + 17)
  count_guest(buyer, slot, -qty)
  move('Q', buyer, record_of(value, p, s))
  w.values[buyer] = sub(value, 1, p - 1) .. sub(value, behind(value, s))
end

local function set_deadline(buyer, key, deadline)
  w.add[#w.add + 1] = deadline
  w.add[#w.add + 1] = 'h' .. buyer .. key
end

local function forget_deadline(buyer, key)
  w.drop[#w.drop + 1] = 'h' .. buyer .. key
end

local function wait_member(slot, buyer, qty)
  return pack('>H', slot) .. buyer .. pack('>H', qty)
end

-- Exact text of a score: Lua's own conversion keeps 14 digits only.
local function score_text(score)
  return string.format('%.0f', score)
end

-- Grant to one waiter, or take their place away where they are at their limit.
local function grant_to(o, slot, member)
  local buyer, qty = sub(member, 3, 18), unpack_bytes('>H', member, 19)
  local value = value_of(buyer)
  local p, s = find_waiting(value, slot)
  w.wait_drop[#w.wait_drop + 1] = member
  if not p then return end
  if units_of(value, slot) + qty > o.limit then return end_waiting(buyer, p, s) end
  local deadline = w.now + o.ttl * 1000
  o.left, o.held = o.left - qty, o.held + qty
  set_deadline(buyer, sub(value, p, p + 15), deadline)
  set_state('G', buyer, p, s, 'H', deadline)
end

-- Waiters of one page are granted what fits. Returns the number of grants, and the waiter to go on
-- from where this call may grant no more.
local function grant_page(o, slot, waiters, served)
  for i = 1, #waiters do
    if unpack_bytes('>H', waiters[i], 19) <= o.left then
      if served >= GRANTS_MAX or w.served >= GRANTS_A_CALL_MAX then
        return served, waiters[i]
      end
      served, w.served = served + 1, w.served + 1
      grant_to(o, slot, waiters[i])
    end
  end
  return served
end

-- Units of a slot go to the earliest waiters whose whole quantity fits, from the place `reserved`
-- on: whoever stands before it wants more than is left. Returns true where this call may not go on
-- to the end of the line: the units stay reserved, and the reaper goes on from there.
-- Always: what is left is reserved only while somebody waits who was not looked at.
local function grant(slot)
  local o = offer_of(slot)
  local low, high = slot * 2 ^ 40 + o.reserved, '(' .. score_text((slot + 1) * 2 ^ 40)
  local served, looked, stop = 0, 0, nil
  while o.reserved > 0 do
    local waiters = {}
    if o.left > 0 and o.waitlist == 1 and o.phase < CLOSING then
      waiters = call('ZRANGEBYSCORE', w.wait, score_text(low), high, 'LIMIT', looked, GRANT_PAGE)
    end
    -- Paused, or not open yet: nobody is granted, and nobody comes before those who wait.
    if #waiters > 0 and refusal(o, w.now) then return end
    if looked >= LOOKS_MAX then stop = waiters[1]
    else served, stop = grant_page(o, slot, waiters, served) end
    if stop then
      o.reserved = call('ZSCORE', w.wait, stop) - slot * 2 ^ 40
      return true
    end
    looked = looked + #waiters
    if #waiters < GRANT_PAGE then o.reserved = 0 end
  end
end

-- Give the lines' units back from `held` or `sold` to `left`; waiters come first, from the head of
-- the line.
local function free_units(buyer, lines, from)
  for i = 1, #lines do
    local o = offer_of(lines[i][1])
    if from == 'held' then count_guest(buyer, lines[i][1], -lines[i][2]) end
    o[from], o.left = o[from] - lines[i][2], o.left + lines[i][2]
    o.reserved = HEAD_OF_LINE
  end
end

local function grant_lines(lines)
  for i = 1, #lines do grant(lines[i][1]) end
end

-- Write at once what changed. Returns the number of movements.
local function commit()
  local moved = #w.moves
  local put, gone = {}, {}
  for buyer, value in pairs(w.values) do
    if value == '' then gone[#gone + 1] = buyer
    else put[#put + 1] = buyer; put[#put + 1] = value end
  end
  if moved > 0 then
    if #put > 0 then call('HSET', w.buyers, unpack(put)) end
    if #gone > 0 then call('HDEL', w.buyers, unpack(gone)) end
    local base = call('HINCRBY', w.meta, 'seq', moved) - moved
    local head = pack('>c1I4I6I6', 'M', w.epoch, base, w.now)
    call('XADD', w.outbox, '*', 'h', head, 'm', table.concat(w.moves))
  end
  local offers = {}
  for slot, o in pairs(w.offers) do
    local value = write_offer(o)
    if value ~= w.stored[slot] then
      offers[#offers + 1] = pack('>H', slot)
      offers[#offers + 1] = value
    end
  end
  if #offers > 0 then call('HSET', w.offers_key, unpack(offers)) end
  for field, units in pairs(w.guests) do
    if units ~= 0 and call('HINCRBY', w.guests_key, field, units) <= 0 then
      call('HDEL', w.guests_key, field)
    end
  end
  if #w.drop > 0 then call('ZREM', w.deadlines, unpack(w.drop)) end
  if #w.add > 0 then call('ZADD', w.deadlines, unpack(w.add)) end
  if #w.wait_drop > 0 then call('ZREM', w.wait, unpack(w.wait_drop)) end
  if #w.wait_add > 0 then call('ZADD', w.wait, unpack(w.wait_add)) end
  return moved
end
