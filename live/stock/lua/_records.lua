-- _records: the Lua twin of live/stock/records.py. Put in front of every script; no call of its
--   own.
-- A buyer's value is a row of records, oldest first: key 16, lines n 1, n x (slot 2, qty 2), state
-- 1, time 6, and of a paying one (P) held_until 6.
-- The time is the deadline in ms of a hold and the place in the queue of a waiter; held_until is
-- the deadline from before the payment began. Once it ended the time is 0, or REFUSED where its
-- money goes back and nothing may be sold for it, or, where it expired while it was paid, until
-- when the record has to stay: money may still come for it.
-- A record without lines (state D) at the head says that older ones were dropped (`make_room`).
local byte, sub, rep, floor, max = string.byte, string.sub, string.rep, math.floor, math.max
local find = string.find
local pack, unpack_bytes = struct.pack, struct.unpack
local call = redis.call

local RECORDS_PER_OFFER_MAX, RECORDS_MAX, RECORD_BYTES_MIN = 16, 128, 28
local OFFER = '>BBBI6I4HI4I6I6i4I4I4'
local DRAFT, SCHEDULED, OPEN, PAUSED, CLOSING, CLOSED = 0, 1, 2, 3, 4, 5
local HOLD_MODE, FIRST_PAID = 0, 1
local COUNTED = { [72] = true, [80] = true, [83] = true } -- H held, P paying, S sold
local ENDED = { [82] = true, [69] = true, [88] = true } -- R released, E expired, X cancelled
local NO_TIME = rep('\0', 6)
local HEAD_OF_LINE = 1 -- places in a waitlist count from here
local REFUSED = 1
local LATE_MONEY_MS = 86400000 -- a payment that is undecided for a day is a person's business
local DROPPED = rep('\0', 17) .. 'D' .. NO_TIME

-- A guest's digest begins with GUEST and a digest of the addresses that they came from
-- (domain/ids.py). What guests hold of an offer, or wait for, is at most its half, those of one
-- range of addresses at most its twentieth; a single guest always gets what one buyer may have.
local GUEST = 'gst\0'
local GUESTS_SHARE, RANGE_SHARE = 2, 20

-- Redis TIME in ms: gateways' clocks differ, and a deadline must have a single judge.
local function clock()
  local time = call('TIME')
  return time[1] * 1000 + floor(time[2] / 1000)
end

-- True where nothing of this show may be decided here: this is not the server that it was installed
-- on, another life of it, or one of these keys is lost. Each has a mark (the outbox its group) from
-- the show's beginning, so it is there though nobody is in it; and as no script goes on without it,
-- none begins it anew, which would forget what buyers have.
local function must_rebuild(meta_key, epoch, run, ...)
  local meta = call('HMGET', meta_key, 'stock_epoch', 'run_id')
  return meta[1] ~= epoch or meta[2] ~= run or call('EXISTS', ...) < select('#', ...)
end

-- True where Redis has fewer offers of this show than it was given: some are lost, with what was
-- held and sold of them, and only a rebuild brings them back.
local function lacks_offers(meta_key, offers_key)
  return call('HLEN', offers_key) < tonumber(call('HGET', meta_key, 'offers') or 0)
end

local function read_offer(value)
  local o = {}
  o.phase, o.mode, o.waitlist, o.reserved, o.version, o.limit, o.ttl, o.opens, o.closes,
    o.left, o.held, o.sold = unpack_bytes(OFFER, value)
  return o
end

local function write_offer(o)
  return pack(OFFER, o.phase, o.mode, o.waitlist, o.reserved, o.version, o.limit, o.ttl,
    o.opens, o.closes, o.left, o.held, o.sold)
end

-- Units that a newcomer may have: none while what is left is reserved for waiters.
local function left_for_new(o)
  return o.reserved > 0 and 0 or o.left
end

-- Why nothing of this offer can be had now: c closed, i paused, n not open yet; nil when it is
-- open.
-- A scheduled offer opens by the clock alone, so a keeper that is late delays nobody.
local function refusal(o, now)
  if o.phase >= CLOSING or (o.closes > 0 and now >= o.closes) then return 'c' end
  if o.phase == PAUSED then return 'i' end
  if o.phase == DRAFT or now < o.opens then return 'n' end
  if o.phase == SCHEDULED and o.opens == 0 then return 'n' end
end

-- Place behind the record whose state is at s.
local function behind(value, s)
  return byte(value, s) == 80 and s + 13 or s + 7
end

-- Place of a record in a buyer's value, its number of lines, and place of its state; nil if
-- unknown.
local function find_record(value, key)
  if not find(value, key, 1, true) then return nil end -- by far the most: no walk for them
  local p, size = 1, #value
  while p <= size do
    local n = byte(value, p + 16)
    local s = p + 17 + 4 * n
    if n > 0 and sub(value, p, p + 15) == key then return p, n, s end
    p = behind(value, s)
  end
end

-- Place of a buyer's record in the line for one offer, and of its state; nil if they do not wait.
local function find_waiting(value, slot)
  local p, size = 1, #value
  while p <= size do
    local s = p + 17 + 4 * byte(value, p + 16)
    if byte(value, s) == 87 and unpack_bytes('>H', value, p + 17) == slot then return p, s end
    p = behind(value, s)
  end
end

-- The record at p, whose state is at s.
local function record_of(value, p, s)
  return sub(value, p, behind(value, s) - 1)
end

-- Lines of the record (or request) whose first line starts at p: list of {slot, qty}.
local function read_lines(value, p, n)
  local lines = {}
  for i = 1, n do
    local a, b, c, d = byte(value, p, p + 3)
    lines[i] = { a * 256 + b, c * 256 + d }
    p = p + 4
  end
  return lines
end

-- Units of one offer that count toward the buyer's limit.
local function units_of(value, slot)
  local p, size, units = 1, #value, 0
  while p <= size do
    local n = byte(value, p + 16)
    local s = p + 17 + 4 * n
    if COUNTED[byte(value, s)] then
      for l = p + 17, s - 4, 4 do
        local a, b, c, d = byte(value, l, l + 3)
        if a * 256 + b == slot then units = units + c * 256 + d end
      end
    end
    p = behind(value, s)
  end
  return units
end

-- Whether money may still come for a record that ended; it must stay until then.
local function awaits_money(value, s, now)
  return unpack_bytes('>I6', value, s + 1) > now
end

-- Drop the oldest ended record that names the slot (any, for nil). Returns the value, or nil if
-- none ended.
local function drop_ended(value, slot, now)
  local p, size = 1, #value
  while p <= size do
    local n = byte(value, p + 16)
    local s = p + 17 + 4 * n
    if ENDED[byte(value, s)] and not awaits_money(value, s, now) then
      local named = slot == nil
      for l = p + 17, s - 4, 4 do
        local a, b = byte(value, l, l + 1)
        named = named or a * 256 + b == slot
      end
      if named then return sub(value, 1, p - 1) .. sub(value, behind(value, s)) end
    end
    p = behind(value, s)
  end
end

local function count_records(value, slot)
  local p, size, all, named = 1, #value, 0, 0
  while p <= size do
    local n = byte(value, p + 16)
    local s = p + 17 + 4 * n
    all = all + 1
    for l = p + 17, s - 4, 4 do
      local a, b = byte(value, l, l + 1)
      if a * 256 + b == slot then named = named + 1 end
    end
    p = behind(value, s)
  end
  return all, named
end

local function is_closed(offers_key, slot)
  local value = call('HGET', offers_key, pack('>H', slot))
  return value and byte(value) == CLOSED
end

-- Drop the oldest sold or ended record of whose offers none can be had any more: no limit needs it,
-- and its repeat is answered by the ledger, as the mark at the head says. Returns nil if none is.
local function drop_finished(value, now, offers_key)
  local p, size = 1, #value
  while p <= size do
    local n = byte(value, p + 16)
    local s = p + 17 + 4 * n
    local state = byte(value, s)
    local finished = state == 83 or (ENDED[state] and not awaits_money(value, s, now))
    for l = p + 17, finished and s - 4 or 0, 4 do
      finished = finished and is_closed(offers_key, unpack_bytes('>H', value, l))
    end
    if finished then
      value = sub(value, 1, p - 1) .. sub(value, behind(value, s))
      return sub(value, 1, 24) == DROPPED and value or DROPPED .. value
    end
    p = behind(value, s)
  end
end

-- Whether the ledger may know a key that this value does not.
local function has_forgotten(value)
  return value and sub(value, 1, 24) == DROPPED
end

-- Room for one more record with these lines, dropping what is over; nil when nothing may go.
local function make_room(value, lines, now, offers_key)
  if #value < RECORDS_PER_OFFER_MAX * RECORD_BYTES_MIN then return value end
  for i = 1, #lines do
    local all, named = count_records(value, lines[i][1])
    if named >= RECORDS_PER_OFFER_MAX then value = drop_ended(value, lines[i][1], now)
    elseif all >= RECORDS_MAX then
      value = drop_finished(value, now, offers_key) or drop_ended(value, nil, now)
    end
    if not value then return nil end
  end
  return value
end

-- Whether two packed lists of lines ask for the same: a cart is the same in any order of its items.
-- Neither names an offer twice, so it is enough that each line of one is in the other.
local function same_lines(known, asked)
  if known == asked then return true end
  if #known ~= #asked then return false end
  for i = 2, #known, 4 do
    local line, found = sub(known, i, i + 3), false
    for j = 2, #asked, 4 do found = found or sub(asked, j, j + 3) == line end
    if not found then return false end
  end
  return true
end

-- What a known key is answered: t live, e expired, r released or cancelled, s sold, w waiting, d
-- another request.
local function repeat_status(value, p, n, s, asked, now)
  if not same_lines(sub(value, p + 16, s - 1), asked) then return 'd' end
  local state = sub(value, s, s)
  if state == 'H' then
    if unpack_bytes('>I6', value, s + 1) > now then return 't' end
    return 'e'
  elseif state == 'P' then return 't'
  elseif state == 'S' then return 's'
  elseif state == 'E' then return 'e'
  elseif state == 'W' then return 'w' end
  return 'r'
end

local function is_guest(buyer)
  return sub(buyer, 1, 4) == GUEST
end

-- The fields that count a guest's units of a slot: of all guests, and of those of their addresses.
local function guest_fields(buyer, slot)
  local all = pack('>H', slot)
  return all, all .. sub(buyer, 5, 8)
end

-- Whether guests who have `all` units of an offer, `near` of them from the same addresses, may have
-- so many more.
local function guests_may(allotted, limit, all, near, qty)
  return all + qty <= max(limit, floor(allotted / GUESTS_SHARE))
    and near + qty <= max(limit, floor(allotted / RANGE_SHARE))
end
