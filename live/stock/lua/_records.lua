-- _records: the Lua twin of live/stock/records.py. Put in front of every script; no call of its
--   own.
-- A buyer's value is a row of records, oldest first: key 16, lines n 1, n x (slot 2, qty 2), state
-- 1, time 6, and of a paying one (P) held_until 6.
-- The time is the deadline in ms of a hold, the place in the queue of a waiter, and 0 once it
-- ended; held_until is the deadline from before the payment began.
local byte, sub, rep, floor = string.byte, string.sub, string.rep, math.floor
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

-- Redis TIME in ms: gateways' clocks differ, and a deadline must have a single judge.
local function clock()
  local time = call('TIME')
  return time[1] * 1000 + floor(time[2] / 1000)
end

-- True where this server is not the one that the show was installed on, or in another life of it.
local function is_foreign(meta_key, epoch, run)
  local meta = call('HMGET', meta_key, 'stock_epoch', 'run_id')
  return meta[1] ~= epoch or meta[2] ~= run
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

-- Why nothing of this offer can be had now: X closed, Z paused, N not open yet; nil when it is
-- open.
-- A scheduled offer opens by the clock alone, so a keeper that is late delays nobody.
local function refusal(o, now)
  if o.phase >= CLOSING or (o.closes > 0 and now >= o.closes) then return 'X' end
  if o.phase == PAUSED then return 'Z' end
  if o.phase == DRAFT or now < o.opens then return 'N' end
  if o.phase == SCHEDULED and o.opens == 0 then return 'N' end
end

-- Place behind the record whose state is at s.
local function behind(value, s)
  return byte(value, s) == 80 and s + 13 or s + 7
end

-- Place of a record in a buyer's value, its number of lines, and place of its state; nil if
-- unknown.
local function find_record(value, key)
  local p, size = 1, #value
  while p <= size do
    local n = byte(value, p + 16)
    local s = p + 17 + 4 * n
    if sub(value, p, p + 15) == key then return p, n, s end
    p = behind(value, s)
  end
end

-- Place of a buyer's record in the line for one offer, and of its state; nil if he does not wait.
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

-- Drop the oldest ended record that names the slot (any, for nil). Returns the value, or nil if
-- none ended.
local function drop_ended(value, slot)
  local p, size = 1, #value
  while p <= size do
    local n = byte(value, p + 16)
    local s = p + 17 + 4 * n
    if ENDED[byte(value, s)] then
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

-- Room for one more record with these lines, dropping ended ones; nil when nothing may be dropped.
local function make_room(value, lines)
  if #value < RECORDS_PER_OFFER_MAX * RECORD_BYTES_MIN then return value end
  for i = 1, #lines do
    local all, named = count_records(value, lines[i][1])
    if named >= RECORDS_PER_OFFER_MAX then value = drop_ended(value, lines[i][1])
    elseif all >= RECORDS_MAX then value = drop_ended(value) end
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

-- What a known key is answered: h live, e expired, r released or cancelled, s sold, w waiting, C
-- another request.
local function repeat_status(value, p, n, s, asked, now)
  if not same_lines(sub(value, p + 16, s - 1), asked) then return 'C' end
  local state = sub(value, s, s)
  if state == 'H' then
    if unpack_bytes('>I6', value, s + 1) > now then return 'h' end
    return 'e'
  elseif state == 'P' then return 'h'
  elseif state == 'S' then return 's'
  elseif state == 'E' then return 'e'
  elseif state == 'W' then return 'w' end
  return 'r'
end
