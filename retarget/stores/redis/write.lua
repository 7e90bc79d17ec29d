-- write.lua: apply the first alternative whose guards all hold, whole; if none does, change nothing.
--
--   EVALSHA <sha> 1 KEY  NOW ID PROGRAM HOLD NAME...  ->  n  the n-th alternative was applied (from 1)
--                                                         0  denied: no alternative's guards held
--                                                        -1  full: the visitor has no room, and nothing can go
--                                                        -2  late: all entries are too old beside what is there
--                                                         3 bytes: the id is known; what was remembered with it
--   KEY      the visitor's hash; the only key touched. A field per timeline; "#0" and "#1" hold the ids remembered.
--   NOW      the moment everything is judged by, epoch seconds. The server's clock is never read.
--   ID       5 bytes, or empty
--   PROGRAM  alternatives, one behind the other, numbers big-endian:
--              alternative  guards u16, entries u16 (how many), ttl u32 (seconds), outcome 3 bytes,
--                           length u32 (bytes of the guards and entries, which follow)
--              guard        flags u8 (1 wanted, 2 or-else-the-next, 4 not before the session), n u16, since u32, name
--              entry        at u32, weight u16, keep u16, head u16, name            name: length u16, bytes
--                           keep 0: take out `at` instead, `weight` times; at 0: the moment that HOLD's timeline holds
--   HOLD     the timeline of one reserved impression, or empty; an entry without a name enters there
--   NAME     timelines that the first alternative names: read by one command instead of one each
--
-- A timeline is a head of 2 bytes, then u32 moments, oldest first. Head: 1 bit shield, 5 bits shift, 10 bits horizon.
-- With horizon 0 the moments are dated at their own end. Such are reserved impressions: those of timeline X stand in
-- "h" .. X and count, while they last, as if they stood in X; "h" has the end of the last one.
-- HEAD, ENTRY, SKEW, DAY, MOST_TIMELINES, IDS_KEPT and RECORD are defined in a line that script.py puts before this.
-- It knows no policy. Everything is read and checked before the first write: a script is not rolled back.
-- Making a function costs a third of a microsecond in every call, so what is used once stands where it is used.

local ID = 5
local key, now, id, program, hold = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local call, unpack_bytes, pack_bytes, sub = redis.call, struct.unpack, struct.pack, string.sub

local timelines = {} -- as read; false where there is none
local function keep_read(name, raw)
  if raw and (#raw < HEAD + ENTRY or (#raw - HEAD) % ENTRY ~= 0) then
    error({ err = 'CORRUPT a field of ' .. #name .. ' bytes is no timeline' })
  end
  timelines[name] = raw
  return raw
end
local function timeline(name)
  local raw = timelines[name]
  if raw == nil then return keep_read(name, call('HGET', key, name)) end
  return raw
end

local function horizon(head)
  return (head % 1024) * 2 ^ (math.floor(head / 1024) % 32)
end

-- is the id known?
local ids = ''
if id ~= '' then
  local parts = call('HMGET', key, '#0', '#1')
  ids = (parts[1] or '') .. (parts[2] or '')
  if #ids % RECORD ~= 0 then error({ err = 'CORRUPT the ids remembered are none' }) end
  for i = 1, #ids, RECORD do
    if sub(ids, i, i + ID - 1) == id then return sub(ids, i + ID, i + RECORD - 1) end
  end
end

-- are there reserved impressions that last still?
local first_read = call('HMGET', key, 'h', unpack(ARGV, 5))
for i = 5, #ARGV do keep_read(ARGV[i], first_read[i - 3]) end
local reserved = keep_read('h', first_read[1])
reserved = reserved and unpack_bytes('>I4', reserved, #reserved - ENTRY + 1) > now

-- which alternative? The one question is asked here: is the n-th newest entry at or after `since`?
local pos, number, applied, entries, ttl, outcome = 1, 0, false, 0, 0, ''
while not applied do
  if pos > #program then return 0 end
  local guards, length
  guards, entries, ttl, outcome, length, pos = unpack_bytes('>I2I2I4c3I4', program, pos)
  local behind, clause = pos + length, false
  number, applied = number + 1, true
  for _ = 1, guards do
    local flags, n, since, name
    flags, n, since, name, pos = unpack_bytes('>BI2I4I2c0', program, pos)
    if not clause then
      local held = reserved and timeline('h' .. name)
      if held then
        local last = #held - ENTRY + 1
        while n > 0 and last > HEAD and unpack_bytes('>I4', held, last) > now do n, last = n - 1, last - ENTRY end
      end
      local raw = n > 0 and timeline(name)
      if flags >= 4 then
        local begun = timeline('^')
        if begun then since = math.max(since, (unpack_bytes('>I4', begun, #begun - ENTRY + 1))) end
      end
      local first = raw and #raw - ENTRY * n + 1
      local true_now = n == 0 or (first and first > HEAD and unpack_bytes('>I4', raw, first) >= since) or false
      clause = true_now == (flags % 2 == 1)
    end
    if flags % 4 < 2 then -- the clause ends here
      if not clause then
        applied, pos = false, behind
        break
      end
      clause = false
    end
  end
end

-- enter each `at` in its place, `weight` times; keep the newest that matter. Dead timelines are looked for when one
-- begins, or when none of those entered has an entry of this day yet: seldom enough to cost little, often enough that
-- none stays, for the first write of a day is such a one.
local full, size, prune, grown, today, changed, order = nil, 0, false, false, false, {}, {}
for _ = 1, entries do
  local at, weight, keep, head, name
  at, weight, keep, head, name, pos = unpack_bytes('>I4I2I2I2I2c0', program, pos)
  if name == '' then name = hold end
  local raw = timeline(name)
  local latest = raw and unpack_bytes('>I4', raw, #raw - ENTRY + 1) or 0
  if keep > 0 and full == nil then
    size = call('HLEN', key)
    full = size >= MOST_TIMELINES
    prune = prune or full
  end
  local oldest = head % 1024 == 0 and now + 1 or math.max(now, latest) - horizon(head) - SKEW
  if at == 0 and keep == 0 then
    local held = timeline(hold)
    at = held and unpack_bytes('>I4', held, #held - ENTRY + 1) or -1
  end
  local entered, place = false, raw and #raw or HEAD
  if raw and at < latest then -- its place is behind all that are not later
    local low, high = 0, (#raw - HEAD) / ENTRY - 1
    while low < high do
      local middle = math.floor((low + high) / 2)
      if unpack_bytes('>I4', raw, HEAD + middle * ENTRY + 1) > at then high = middle else low = middle + 1 end
    end
    place = HEAD + high * ENTRY
  end
  if keep == 0 then
    local first = place
    while first > HEAD and first > place - weight * ENTRY and unpack_bytes('>I4', raw, first - ENTRY + 1) == at do
      first = first - ENTRY
    end
    entered = first < place
    if entered then
      raw = sub(raw, 1, first) .. sub(raw, place + 1)
      timelines[name] = #raw > HEAD and raw
    end
  elseif at >= oldest then
    local new = pack_bytes('>I4', at)
    if weight > 1 then new = string.rep(new, weight) end
    local was, earliest
    if raw then was, earliest = unpack_bytes('>I2I4', raw) end
    if raw and at >= latest and was == head and earliest >= oldest and #raw - HEAD + #new <= keep * ENTRY then
      timelines[name] = raw .. new -- what nearly all entries come to: nothing to place, nothing to cut
    else
      local body, first = new, 1
      if raw then
        body = sub(raw, HEAD + 1, place) .. new .. sub(raw, place + 1)
        first = math.max(1, #body - keep * ENTRY + 1)
        while unpack_bytes('>I4', body, first) < oldest do first = first + ENTRY end
      elseif weight > keep then
        first = #body - keep * ENTRY + 1
      end
      timelines[name] = pack_bytes('>I2', head) .. sub(body, first)
    end
    entered, grown, prune = true, true, prune or not raw
    today = today or math.floor(latest / DAY) == math.floor(now / DAY)
  end
  if entered and not changed[name] then
    changed[name], order[#order + 1] = true, name
  end
end
if entries > 0 and #order == 0 then return -2 end
prune = prune or (grown and not today)
local set, gone = {}, {}
for i = 1, #order do
  local name = order[i]
  if timelines[name] then
    set[#set + 1] = name
    set[#set + 1] = timelines[name]
  else
    gone[#gone + 1] = name
  end
end

-- what can go: timelines whose entries matter no more; and, in a full visitor, the oldest that no blocking rule asks for
if prune and size > 0 then
  local all, interests, shields = call('HGETALL', key), {}, 0
  for i = 1, #all, 2 do
    local name, raw = all[i], all[i + 1]
    if sub(name, 1, 1) ~= '#' then
      if #raw < HEAD + ENTRY or (#raw - HEAD) % ENTRY ~= 0 then
        error({ err = 'CORRUPT a field of ' .. #name .. ' bytes is no timeline' })
      end
      local head, latest = unpack_bytes('>I2', raw), unpack_bytes('>I4', raw, #raw - ENTRY + 1)
      if latest < now - horizon(head) then
        if not changed[name] then gone[#gone + 1] = name end
      elseif head >= 32768 then
        shields = shields + 1
      else
        interests[#interests + 1] = { latest, name }
      end
    end
  end
  if full and shields + #interests >= MOST_TIMELINES then
    if shields >= MOST_TIMELINES then return -1 end
    table.sort(interests, function(a, b)
      if a[1] ~= b[1] then return a[1] < b[1] end
      return a[2] < b[2]
    end)
    for i = 1, shields + #interests - MOST_TIMELINES + 1 do
      if not changed[interests[i][2]] then gone[#gone + 1] = interests[i][2] end
    end
  end
end

if id ~= '' then
  ids = sub(ids .. id .. outcome, -IDS_KEPT * RECORD)
  set[#set + 1] = '#0'
  set[#set + 1] = sub(ids, 1, 64)
  if #ids > 64 then
    set[#set + 1] = '#1'
    set[#set + 1] = sub(ids, 65)
  end
end

-- from here on nothing can fail: want of memory is refused before the script begins
local left = call('TTL', key)
if #set > 0 then
  call('HSET', key, unpack(set))
  if left < ttl then call('EXPIRE', key, ttl) end
end
if #gone > 0 then call('HDEL', key, unpack(gone)) end -- last: a hash that loses all its fields loses its TTL
return number
