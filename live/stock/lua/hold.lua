-- hold: decide a batch of K holds of one show, first come first served inside it.
-- Keeps:   allotted = left + held + sold, per offer.   Cost: O(K), K <= 512.   Clock: Redis TIME.
-- Retry:   a repeated (buyer, key) gets the live hold's answer; stock moves once.
-- Needs:   _records
-- KEYS[1]  meta       hash    stock_epoch run_id seq
-- KEYS[2]  offers     hash    slot -> packed offer
-- KEYS[3]  buyers     hash    buyer -> packed records
-- KEYS[4]  outbox     stream  one entry for the batch; none where nothing was held
-- KEYS[5]  deadlines  zset    one member for the batch and hold time
-- KEYS[6]  guests     hash    slot 2, or slot 2 and addresses 4 -> units of guests
-- ARGV[1]  stock_epoch
-- ARGV[2]  run_id
-- ARGV[3]  K requests: buyer 16, key 16, lines n 1, n x (slot 2, qty 2); no slot twice in one
--          request
-- ARGV[4]  K
-- Reply:   a or j (nothing written; j: the ledger is too far behind), or {K status characters,
--          time, offers, details, due}; due > 0: reap, then ask again
-- Codes:   H t e r s w d n i c f l k g o m u
local meta_key, offers_key, buyers_key, outbox_key, deadlines_key, guests_key =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local epoch, run, blob, k = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if must_rebuild(meta_key, epoch, run, buyers_key, outbox_key, deadlines_key, guests_key) then
  return 'a'
end
local now = clock()

-- Entries that the ledger may lack before new holds have to wait: about a minute and a half of a
-- busy sale without Postgres, and 400 MB if each entry were full. The length counts settled entries
-- as well, but it costs nothing; only beyond the bound is the group asked. No lag (right after a
-- rebuild) counts as none.
local BACKLOG_MAX = 20000
if call('XLEN', outbox_key) > BACKLOG_MAX then
  local unsettled, groups = 0, call('XINFO', 'GROUPS', outbox_key)
  for i = 1, #groups do
    for j = 1, #groups[i], 2 do
      local name = groups[i][j]
      if name == 'pending' or name == 'lag' then unsettled = unsettled + (groups[i][j + 1] or 0) end
    end
  end
  if unsettled > BACKLOG_MAX then return 'j' end
end

-- A request has 37 bytes at least, so a blob of 37 x K bytes has one line in each.
local ids, starts = {}, nil
if #blob == 37 * k then
  for i = 1, k do ids[i] = sub(blob, 37 * i - 36, 37 * i - 21) end
else
  starts = {}
  local p = 1
  for i = 1, k do
    ids[i] = sub(blob, p, p + 15)
    starts[i] = p
    p = p + 33 + 4 * byte(blob, p + 32)
  end
end
local stored = call('HMGET', buyers_key, unpack(ids))
local some_guests = find(blob, GUEST, 1, true)

local offers, slots, reserved = {}, {}, 0
local function load_offer(slot)
  local value = call('HGET', offers_key, pack('>H', slot))
  if not value then return nil end
  local o = read_offer(value)
  o.refusal = o.mode ~= HOLD_MODE and 'm' or refusal(o, now) or (o.reserved > 0 and 'o')
  o.tail = 'H' .. pack('>I6', now + o.ttl * 1000)
  o.had, o.allotted = o.left, o.left + o.held + o.sold
  offers[slot] = o
  slots[#slots + 1] = slot
  if o.refusal == 'o' then reserved = 1 end
  return o
end

local details, wanting, ttls = {}, false, {}

-- A cart names the offer that it failed for; of a single line there is no doubt.
local function refuse(status, slot, n)
  if n > 1 then details[#details + 1] = pack('>H', slot) end
  return status
end

-- A repeat is told what is left now of its first offer, as the first answer was.
local function answer_repeat(value, r, m, s, asked, n)
  local status, slot = repeat_status(value, r, m, s, asked, now), unpack_bytes('>H', asked, 2)
  if status == 'd' then return status end
  if not (offers[slot] or load_offer(slot)) then return refuse('u', slot, n) end
  if status == 't' then details[#details + 1] = sub(value, s + 1, s + 6) end
  return status
end

local guests, counted = {}, {} -- units of guests, by field; those fields that changed
local function guests_of(field)
  local units = guests[field]
  if not units then
    units = tonumber(call('HGET', guests_key, field) or 0)
    guests[field] = units
  end
  return units
end

-- The slot of which guests have as much as they may, if there is one.
local function full_of_guests(buyer, lines)
  for i = 1, #lines do
    local slot, o = lines[i][1], offers[lines[i][1]]
    local all, near = guest_fields(buyer, slot)
    if not guests_may(o.allotted, o.limit, guests_of(all), guests_of(near), lines[i][2]) then
      return slot
    end
  end
end

local function count_guest(buyer, lines)
  for i = 1, #lines do
    local all, near = guest_fields(buyer, lines[i][1])
    guests[all], guests[near] = guests[all] + lines[i][2], guests[near] + lines[i][2]
    counted[all], counted[near] = true, true
  end
end

-- The way of every request that is not "one line, first hold of this buyer, no guest": status and
-- the buyer's new value.
local function decide(buyer, value, at, n)
  local stop = at + 32 + 4 * n
  if value then
    local r, m, s = find_record(value, sub(blob, at + 16, at + 31))
    if r then return answer_repeat(value, r, m, s, sub(blob, at + 32, stop), n) end
  end
  local lines, ttl = read_lines(blob, at + 33, n), nil
  for i = 1, n do
    local slot, qty = lines[i][1], lines[i][2]
    local o = offers[slot] or load_offer(slot)
    local status = not o and 'u' or o.refusal
    if not status then
      if qty + (value and units_of(value, slot) or 0) > o.limit then status = 'l'
      elseif qty > o.left then status = 'o' end
    end
    if status == 'c' and has_forgotten(value) then status = 'f' end
    if status then return refuse(status, slot, n) end
    if not ttl or o.ttl < ttl then ttl = o.ttl end
  end
  local roomy = make_room(value or '', lines, now, offers_key)
  if not roomy then return refuse('k', lines[1][1], n) end
  if some_guests and is_guest(buyer) then
    local slot = full_of_guests(buyer, lines)
    if slot then return refuse('g', slot, n) end
    count_guest(buyer, lines)
  end
  for i = 1, n do
    local o = offers[lines[i][1]]
    o.left = o.left - lines[i][2]
  end
  ttls[ttl] = true
  return 'H', roomy .. sub(blob, at + 16, stop) .. 'H' .. pack('>I6', now + ttl * 1000)
end

local statuses, put, place, puts = {}, {}, {}, 0
local last, offer
for i = 1, k do
  local at, buyer = starts and starts[i] or 37 * i - 36, ids[i]
  local spot = place[buyer]
  local value = spot and put[spot] or stored[i]
  local n, a, b, c, d = byte(blob, at + 32, at + 36)
  local status, fresh
  if value or n ~= 1 or (some_guests and is_guest(buyer)) then
    status, fresh = decide(buyer, value, at, n)
  else
    local slot, qty = a * 256 + b, c * 256 + d
    if slot ~= last then last, offer = slot, offers[slot] or load_offer(slot) end
    status = not offer and 'u' or offer.refusal
    if not status then
      local left = offer.left
      if qty > offer.limit then status = 'l'
      elseif qty > left then status = 'o'
      else
        status, fresh = 'H', sub(blob, at + 16, at + 36) .. offer.tail
        offer.left = left - qty
        offer.plain = true
      end
    end
  end
  statuses[i] = status
  if fresh then
    if not spot then
      put[puts + 1] = buyer
      puts = puts + 2
      spot = puts
      place[buyer] = spot
    end
    put[spot] = fresh
  elseif status == 'l' or status == 'o' or status == 'k' or status == 'g' then
    wanting = true
  end
end

local offers_now, written = {}, {}
for i = 1, #slots do
  local o = offers[slots[i]]
  o.held = o.held + o.had - o.left
  if o.plain then ttls[o.ttl] = true end
  offers_now[i] = pack('>HI4i4', slots[i], o.ttl, o.left)
  written[2 * i - 1], written[2 * i] = pack('>H', slots[i]), write_offer(o)
end
local answer, offers_blob = table.concat(statuses), table.concat(offers_now)
if puts > 0 then
  call('HSET', buyers_key, unpack(put))
  call('HSET', offers_key, unpack(written))
  for field in pairs(counted) do call('HSET', guests_key, field, guests[field]) end
  local base = call('HINCRBY', meta_key, 'seq', k) - k
  local head = pack('>c1I4I6I6', 'H', tonumber(epoch), base, now) .. offers_blob
  local entry = call('XADD', outbox_key, '*', 'h', head, 's', answer, 'b', blob)
  for ttl in pairs(ttls) do
    call('ZADD', deadlines_key, now + ttl * 1000, 'b' .. entry .. ' ' .. ttl)
  end
end
local due = wanting and call('ZCOUNT', deadlines_key, '-inf', now) + reserved or 0
return { answer, now, offers_blob, table.concat(details), due }
