-- write.lua: apply the first alternative whose guards all hold, whole; if none does, change nothing.
--
--   EVALSHA <sha> 1 KEY  NOW ID PROGRAM  ->  n  the n-th alternative was applied (from 1)
--                                            0  denied: no alternative's guards held
--                                           -1  full: the visitor has no room, and nothing can go
--                                           -2  late: all entries are too old beside what the timelines hold
--                                            3 bytes: the id is known; what was remembered with it
--   KEY      the visitor's hash; the only key touched. A field per timeline; "#0" and "#1" hold the ids remembered.
--   NOW      the moment everything is judged by, epoch seconds. The server's clock is never read.
--   ID       5 bytes, or empty
--   PROGRAM  alternatives, one behind the other, numbers big-endian:
--              alternative  guards u16, entries u16 (how many), ttl u32 (seconds), outcome 3 bytes, guards, entries
--              guard        flags u8 (1 wanted, 2 or-else-the-next, 4 not before the session), n u16, since u32, name
--              entry        at u32, weight u16, keep u16, head u16, name            name: length u16, bytes
--
-- A timeline is a head of 2 bytes, then u32 moments, oldest first. Head: 1 bit shield, 5 bits shift, 10 bits horizon.
-- It knows no policy. Everything is read and checked before the first write: a script is not rolled back.

local HEAD, ENTRY, SKEW, DAY = 2, 4, 300, 86400
local MOST_TIMELINES, IDS_KEPT, ID, RECORD = 512, 16, 5, 8
local key, now, id, program = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3]
local unpack_bytes, pack_bytes, sub = struct.unpack, struct.pack, string.sub

local function corrupt(name)
  error({ err = 'CORRUPT a field of this visitor is no timeline: ' .. #name .. ' bytes of name' })
end

local function check(name, raw)
  if #raw < HEAD + ENTRY or (#raw - HEAD) % ENTRY ~= 0 then corrupt(name) end
  return raw
end

local timelines = {}
local function timeline(name)
  local raw = timelines[name]
  if raw == nil then
    raw = redis.call('HGET', key, name)
    if raw then check(name, raw) end
    timelines[name] = raw
  end
  return raw
end

local function newest(raw)
  return (unpack_bytes('>I4', raw, #raw - ENTRY + 1))
end

local function horizon(head)
  return (head % 1024) * 2 ^ (math.floor(head / 1024) % 32)
end

local function is_live(raw)
  return newest(raw) >= now - horizon((unpack_bytes('>I2', raw)))
end

-- the one question: is the n-th newest entry at or after `since`?
local function at_least(name, n, since)
  if n == 0 then return true end
  local raw = timeline(name)
  local first = raw and #raw - ENTRY * n + 1
  return first and first > HEAD and unpack_bytes('>I4', raw, first) >= since or false
end

local function guard(pos)
  local flags, n, since, name, next_pos = unpack_bytes('>BI2I4I2c0', program, pos)
  if flags >= 4 then
    flags = flags - 4
    local begun = timeline('^')
    if begun then since = math.max(since, newest(begun)) end
  end
  return at_least(name, n, since) == (flags % 2 == 1), flags >= 2, next_pos
end

-- all clauses of `count` guards hold; returns that and the position behind them
local function guards_hold(count, pos)
  local all, clause = true, false
  for _ = 1, count do
    if all then
      local holds, more
      holds, more, pos = guard(pos)
      clause = clause or holds
      if not more then all, clause = clause, false end
    else
      local length = unpack_bytes('>I2', program, pos + 7)
      pos = pos + 9 + length
    end
  end
  return all, pos
end

local function skip_entries(count, pos)
  for _ = 1, count do pos = pos + 12 + unpack_bytes('>I2', program, pos + 10) end
  return pos
end

-- the timeline with `at` entered `weight` times in its place, trimmed; nil if `at` is too old to matter
local function entered(raw, at, weight, keep, head)
  local latest = raw and math.max(now, newest(raw)) or now
  local oldest = latest - horizon(head) - SKEW
  if at < oldest then return nil end
  local body = raw and sub(raw, HEAD + 1) or ''
  local place = #body
  while place > 0 and unpack_bytes('>I4', body, place - ENTRY + 1) > at do place = place - ENTRY end
  body = sub(body, 1, place) .. string.rep(pack_bytes('>I4', at), weight) .. sub(body, place + 1)
  local first = math.max(1, #body - keep * ENTRY + 1)
  while unpack_bytes('>I4', body, first) < oldest do first = first + ENTRY end
  return pack_bytes('>I2', head) .. sub(body, first)
end

-- what can go: timelines whose entries matter no more; and, in a full visitor, the oldest that no blocking rule asks for
local function to_prune(full)
  local dead, interests, shields = {}, {}, 0
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local name, raw = all[i], all[i + 1]
    if sub(name, 1, 1) ~= '#' then
      check(name, raw)
      if not is_live(raw) then
        dead[#dead + 1] = name
      elseif raw:byte(1) >= 128 then
        shields = shields + 1
      else
        interests[#interests + 1] = { newest(raw), name }
      end
    end
  end
  if full and shields + #interests >= MOST_TIMELINES then
    if shields >= MOST_TIMELINES then return nil end
    table.sort(interests, function(a, b)
      if a[1] ~= b[1] then return a[1] < b[1] end
      return a[2] < b[2]
    end)
    for i = 1, shields + #interests - MOST_TIMELINES + 1 do dead[#dead + 1] = interests[i][2] end
  end
  return dead
end

local ids = ''
if id ~= '' then
  local parts = redis.call('HMGET', key, '#0', '#1')
  ids = (parts[1] or '') .. (parts[2] or '')
  if #ids % RECORD ~= 0 then corrupt('#0') end
  for i = 1, #ids, RECORD do
    if sub(ids, i, i + ID - 1) == id then return sub(ids, i + ID, i + RECORD - 1) end
  end
end

local pos, number, applied, entries, ttl, outcome = 1, 0, nil, 0, 0, ''
while pos <= #program and not applied do
  local guards
  number = number + 1
  guards, entries, ttl, outcome, pos = unpack_bytes('>I2I2I4c3', program, pos)
  local holds
  holds, pos = guards_hold(guards, pos)
  if holds then applied = number else pos = skip_entries(entries, pos) end
end
if not applied then return 0 end

local full = redis.call('HLEN', key) >= MOST_TIMELINES
local prune, set, gone = full, {}, {} -- dead timelines are looked for when one begins, or on its first entry of a day
for _ = 1, entries do
  local at, weight, keep, head, name
  at, weight, keep, head, name, pos = unpack_bytes('>I4I2I2I2I2c0', program, pos)
  local raw = timeline(name)
  local value = entered(raw, at, weight, keep, head)
  if value then
    timelines[name] = value
    set[#set + 1] = name
    set[#set + 1] = value
    prune = prune or not raw or math.floor(newest(raw) / DAY) ~= math.floor(now / DAY)
  end
end
if entries > 0 and #set == 0 then return -2 end
local fresh = {}
if prune then
  local dead = to_prune(full)
  if not dead then return -1 end
  for i = 1, #set, 2 do fresh[set[i]] = true end
  for i = 1, #dead do
    if not fresh[dead[i]] then gone[#gone + 1] = dead[i] end
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
if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
if #set > 0 then
  redis.call('HSET', key, unpack(set))
  if redis.call('TTL', key) < ttl then redis.call('EXPIRE', key, ttl) end
end
return applied
