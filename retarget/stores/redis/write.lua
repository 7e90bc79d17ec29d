-- write.lua: apply the first alternative whose guards all hold, whole; if none does, change nothing.
--
--   EVALSHA sha 1 KEY  NOW ID PROGRAM HOLD NAME...  ->  n  the n-th alternative was applied (from 1)
--                                                       0  denied: no alternative's guards hold
--                                                      -1  full: the visitor has no room and nothing can be evicted
--                                                      -2  late: every change is too old, or its entry is not there
--                                                       3 bytes: the id is known; the outcome remembered with it
--
-- Arguments
--   KEY      the visitor's hash, the only key touched
--   NOW      the time everything is judged at, epoch seconds. The server's clock is never read.
--   ID       5 bytes, or empty
--   PROGRAM  alternatives, one after the other; numbers are big-endian:
--              alternative  guards u16, changes u16 (counts), ttl u32 (seconds), outcome 3 bytes,
--                           length u32 (bytes of the guards and changes, which follow)
--              guard        flags u8, n u16, since u32, name
--                           flags: 1 wanted, 2 or the next guard, 4 since no earlier than the session's start
--              change       at u32, weight u16, keep u16, head u16, name        name: length u16, bytes
--                           enters `at` `weight` times and keeps the newest `keep`; with keep 0 it removes `at`, at
--                           most `weight` times, where an `at` of 0 is the newest entry of HOLD
--   HOLD     the timeline of one hold, or empty; a change without a name is for this timeline
--   NAME     timelines that the first alternative names: read by one command instead of one each
--
-- Fields of KEY
--   NAME     a timeline: a head of 2 bytes, then entries u32 (epoch seconds), oldest first. Head: shield 1 bit, shift 5
--            bits, horizon 10 bits. With a horizon of 0, entries are their own ends: these are holds.
--   h .. X   the holds in timeline X: until they end they count as if they were entries of X
--   h        the end of the last hold
--   ^        starts of sessions
--   #0 #1    the last IDS_KEPT ids, RECORD bytes each: 5 of the id, 3 of its outcome
--
-- Rules
--   No policy is known here. Everything is read and checked before the first write: a script is not rolled back.
--   Creating a function costs a third of a microsecond in every call: what is used once is written where it is used.
--   HEAD, ENTRY, SKEW, DAY, MOST_TIMELINES, IDS_KEPT and RECORD are defined in a line that script.py puts before this.

local ID = 5
local key, now, id, program, hold = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local call, unpack_bytes, pack_bytes, sub = redis.call, struct.unpack, struct.pack, string.sub

local timelines = {} -- as read and then changed; false if there is none
local function check(name, raw)
  if raw and (#raw < HEAD + ENTRY or (#raw - HEAD) % ENTRY ~= 0) then
    error({ err = 'CORRUPT a field of ' .. #name .. ' bytes is not a valid timeline' })
  end
  timelines[name] = raw
  return raw
end
local function timeline(name)
  local raw = timelines[name]
  if raw == nil then return check(name, call('HGET', key, name)) end
  return raw
end

local function horizon(head)
  return (head % 1024) * 2 ^ (math.floor(head / 1024) % 32)
end

-- 1. Is the id known?
-- Then nothing is changed, and the answer is the outcome remembered with it.
local ids = ''
if id ~= '' then
  local parts = call('HMGET', key, '#0', '#1')
  ids = (parts[1] or '') .. (parts[2] or '')
  if #ids % RECORD ~= 0 then error({ err = 'CORRUPT the remembered ids are not records of ' .. RECORD .. ' bytes' }) end
  for i = 1, #ids, RECORD do
    if sub(ids, i, i + ID - 1) == id then return sub(ids, i + ID, i + RECORD - 1) end
  end
end

-- 2. Read what the first alternative names, and whether any hold is left.
-- One command. Other timelines are read when they are needed.
local first_read = call('HMGET', key, 'h', unpack(ARGV, 5))
for i = 5, #ARGV do check(ARGV[i], first_read[i - 3]) end
local holds_left = check('h', first_read[1])
holds_left = holds_left and unpack_bytes('>I4', holds_left, #holds_left - ENTRY + 1) > now

-- 3. Find the first alternative whose guards hold.
-- A guard asks: is the n-th newest entry at or after `since`? Holds that have not ended count as the newest entries.
-- A guard with flag 2 forms a clause with the next one. In each clause one guard must hold.
local pos, number, applied, changes, ttl, outcome = 1, 0, false, 0, 0, ''
while not applied do
  if pos > #program then return 0 end
  local guards, length
  guards, changes, ttl, outcome, length, pos = unpack_bytes('>I2I2I4c3I4', program, pos)
  local next_alternative, clause_holds = pos + length, false
  number, applied = number + 1, true
  for _ = 1, guards do
    local flags, n, since, name
    flags, n, since, name, pos = unpack_bytes('>BI2I4I2c0', program, pos)
    if not clause_holds then
      local holds = holds_left and timeline('h' .. name)
      if holds then
        local last = #holds - ENTRY + 1
        while n > 0 and last > HEAD and unpack_bytes('>I4', holds, last) > now do n, last = n - 1, last - ENTRY end
      end
      local raw = n > 0 and timeline(name)
      if flags >= 4 then
        local sessions = timeline('^')
        if sessions then since = math.max(since, (unpack_bytes('>I4', sessions, #sessions - ENTRY + 1))) end
      end
      local nth = raw and #raw - ENTRY * n + 1
      local answer = n == 0 or (nth and nth > HEAD and unpack_bytes('>I4', raw, nth) >= since) or false
      clause_holds = answer == (flags % 2 == 1)
    end
    if flags % 4 < 2 then -- the last guard of its clause
      if not clause_holds then
        applied, pos = false, next_alternative
        break
      end
      clause_holds = false
    end
  end
end

-- 4. Make its changes, in memory.
-- An entry goes to its place in time; the newest that matter are kept. Dead timelines are searched for (step 5) when a
-- timeline begins, when the visitor is full, or when no timeline entered has an entry of NOW's day yet. That is rare, so
-- it costs little, and it includes the first write of every day, so no dead timeline stays for long.
local full, size, prune, any_entered, active_today, changed, changed_names = nil, 0, false, false, false, {}, {}
for _ = 1, changes do
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
  local done, place = false, raw and #raw or HEAD -- bytes before the entry's place: after all that are not later
  if raw and at < latest then
    local low, high = 0, (#raw - HEAD) / ENTRY - 1
    while low < high do
      local middle = math.floor((low + high) / 2)
      if unpack_bytes('>I4', raw, HEAD + middle * ENTRY + 1) > at then high = middle else low = middle + 1 end
    end
    place = HEAD + high * ENTRY
  end
  if keep == 0 then -- remove
    local first = place
    while first > HEAD and first > place - weight * ENTRY and unpack_bytes('>I4', raw, first - ENTRY + 1) == at do
      first = first - ENTRY
    end
    done = first < place
    if done then
      raw = sub(raw, 1, first) .. sub(raw, place + 1)
      timelines[name] = #raw > HEAD and raw
    end
  elseif at >= oldest then -- enter
    local new = pack_bytes('>I4', at)
    if weight > 1 then new = string.rep(new, weight) end
    local old_head, earliest
    if raw then old_head, earliest = unpack_bytes('>I2I4', raw) end
    if raw and at >= latest and old_head == head and earliest >= oldest and #raw - HEAD + #new <= keep * ENTRY then
      timelines[name] = raw .. new -- fast path, nearly always taken: nothing to place, nothing to cut
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
    done, any_entered, prune = true, true, prune or not raw
    active_today = active_today or math.floor(latest / DAY) == math.floor(now / DAY)
  end
  if done and not changed[name] then
    changed[name], changed_names[#changed_names + 1] = true, name
  end
end
if changes > 0 and #changed_names == 0 then return -2 end
prune = prune or (any_entered and not active_today)
local to_set, to_delete = {}, {}
for i = 1, #changed_names do
  local name = changed_names[i]
  if timelines[name] then
    to_set[#to_set + 1] = name
    to_set[#to_set + 1] = timelines[name]
  else
    to_delete[#to_delete + 1] = name
  end
end

-- 5. Evict.
-- Timelines whose entries have all expired; and, if the visitor is full, the oldest that no blocking rule asks about.
if prune and size > 0 then
  local all, interests, shields = call('HGETALL', key), {}, 0
  for i = 1, #all, 2 do
    local name, raw = all[i], all[i + 1]
    if sub(name, 1, 1) ~= '#' then
      if #raw < HEAD + ENTRY or (#raw - HEAD) % ENTRY ~= 0 then
        error({ err = 'CORRUPT a field of ' .. #name .. ' bytes is not a valid timeline' })
      end
      local head, latest = unpack_bytes('>I2', raw), unpack_bytes('>I4', raw, #raw - ENTRY + 1)
      if latest < now - horizon(head) then
        if not changed[name] then to_delete[#to_delete + 1] = name end
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
      if not changed[interests[i][2]] then to_delete[#to_delete + 1] = interests[i][2] end
    end
  end
end

-- 6. Remember the id.
if id ~= '' then
  ids = sub(ids .. id .. outcome, -IDS_KEPT * RECORD)
  to_set[#to_set + 1] = '#0'
  to_set[#to_set + 1] = sub(ids, 1, 64)
  if #ids > 64 then
    to_set[#to_set + 1] = '#1'
    to_set[#to_set + 1] = sub(ids, 65)
  end
end

-- 7. Write.
-- Nothing can fail from here on: a server out of memory refuses the script before it begins.
local ttl_left = call('TTL', key)
if #to_set > 0 then
  call('HSET', key, unpack(to_set))
  if ttl_left < ttl then call('EXPIRE', key, ttl) end
end
if #to_delete > 0 then call('HDEL', key, unpack(to_delete)) end -- last: a hash that loses all its fields loses its TTL
return number
