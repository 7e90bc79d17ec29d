-- write.lua: apply the first alternative whose guards all hold, whole; if none does, change nothing.
--
--   EVALSHA sha 1 KEY  NOW ID PROGRAM HOLD NAME...  ->  n  the n-th alternative was applied (from 1)
--                                                       0  denied: no alternative's guards hold
--                                                      -1  full: the visitor has no room and nothing can be evicted
--                                                      -2  late: every change is too old, or its entry is not there
--                                                       5 bytes: the id is known; the outcome remembered with it
--
-- Arguments
--   KEY      the visitor's hash, the only key touched
--   NOW      the time everything is judged at, epoch seconds. The server's clock is never read.
--   ID       5 bytes, or empty
--   PROGRAM  alternatives, one after the other; numbers are big-endian:
--              alternative  guards u32, changes u32 (counts), ttl u32 (seconds), outcome 5 bytes,
--                           length u32 (bytes of the guards and changes, which follow)
--              guard        flags u8, n u16, since u32, name; with flag 4 also n u16, after u32, name of its anchor
--                           flags: 1 wanted, 2 or the next guard, 4 since no earlier than its anchor
--              change       kind u8, at u32, weight u16, keep u16, head u16, name         name: length u16, bytes
--                ENTER      `at` `weight` times, keep the newest `keep`; without a name in the timeline of HOLD
--                COVER      then first u32, pause u32: the interval from `first` to `at`
--                REMOVE     `at`, at most `weight` times
--                RESERVE    until `at`, then length u32 and the record of the places; its entries follow
--                SETTLE     what HOLD reserved; with a weight, enter it at `at`
--                CLEAR      everything
--   HOLD     the mark of one hold, 5 bytes, or empty
--   NAME     timelines that the first alternative names: read by one command instead of one each
--
-- Fields of KEY
--   NAME     a timeline: a head of 2 bytes, then entries u32 (epoch seconds), oldest first. Head: shield 1 bit, shift 5
--            bits, horizon 10 bits. With a horizon of 0, entries are their own ends: these are holds.
--   h .. X   the holds in timeline X: until they end they count as if they were entries of X
--   h        the end of the last hold
--   H .. mark  the end of one hold, once for each piece of its record, and again where a merge moved what it reserved
--   #h .. mark .. number (2 bytes)  where it is reserved, in pieces: weight, keep, head u16, name of each place
--   #0 #1 #2 a deadline u32, then the last IDS_KEPT ids, RECORD bytes each: 5 of the id, 5 of its outcome; in pieces
--
-- Rules
--   No policy is known here. Everything is read and checked before the first write: a script is not rolled back.
--   Creating a function costs a third of a microsecond in every call: what is used once is written where it is used.
--   Words in capitals (HEAD, ENTRY, ENTER and so on) are constants: script.py puts their numbers here.

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

-- 1. Read what the first alternative names, whether any hold is left, and the ids.
-- One command. Other timelines are read when they are needed.
local first_read, ids, deadline, at_name
if id == '' then
  first_read, at_name = call('HMGET', key, 'h', unpack(ARGV, 5)), -3
else
  first_read, at_name = call('HMGET', key, 'h', '#0', '#1', '#2', unpack(ARGV, 5)), 0
end

-- 2. Is the id known?
-- Then nothing is changed, and the answer is the outcome remembered with it.
if id ~= '' then
  ids, deadline = (first_read[2] or '') .. (first_read[3] or '') .. (first_read[4] or ''), 0
  if ids ~= '' then
    if #ids < DEADLINE or (#ids - DEADLINE) % RECORD ~= 0 then
      error({ err = 'CORRUPT the remembered ids are not records of ' .. RECORD .. ' bytes' })
    end
    deadline = unpack_bytes('>I4', ids)
    ids = now <= deadline and sub(ids, DEADLINE + 1) or ''
    local found = string.find(ids, id, 1, true)
    while found do
      if found % RECORD == 1 then return sub(ids, found + ID, found + RECORD - 1) end
      found = string.find(ids, id, found + 1, true)
    end
  end
end
for i = 5, #ARGV do check(ARGV[i], first_read[i + at_name]) end
local holds_left = check('h', first_read[1])
holds_left = holds_left and unpack_bytes('>I4', holds_left, #holds_left - ENTRY + 1) > now

-- 3. Find the first alternative whose guards hold.
-- A guard asks: is the n-th newest entry at or after `since`? Holds that have not ended count as the newest entries.
-- With flag 4, `since` is no earlier than the n-th newest entry of the anchor and `after` seconds, if there is one.
-- A guard with flag 2 forms a clause with the next one. In each clause one guard must hold.
local pos, number, applied, changes, ttl, outcome = 1, 0, false, 0, 0, ''
while not applied do
  if pos > #program then return 0 end
  local guards, length
  guards, changes, ttl, outcome, length, pos = unpack_bytes('>I4I4I4c5I4', program, pos)
  local next_alternative, clause_holds = pos + length, false
  number, applied = number + 1, true
  for _ = 1, guards do
    local flags, n, since, name, anchor_n, after, anchor
    flags, n, since, name, pos = unpack_bytes('>BI2I4I2c0', program, pos)
    if flags >= 4 then anchor_n, after, anchor, pos = unpack_bytes('>I2I4I2c0', program, pos) end
    if not clause_holds then
      local holds = holds_left and timeline('h' .. name)
      if holds then
        local last = #holds - ENTRY + 1
        while n > 0 and last > HEAD and unpack_bytes('>I4', holds, last) > now do n, last = n - 1, last - ENTRY end
      end
      local begun = n > 0 and anchor and timeline(anchor)
      if begun then
        local nth = #begun - ENTRY * anchor_n + 1
        if nth > HEAD then since = math.max(since, unpack_bytes('>I4', begun, nth) + after) end
      end
      local raw = n > 0 and timeline(name)
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
-- An entry goes to its place in time; the newest that matter are kept. Dead timelines are searched for (step 5) when
-- the number of fields passes a multiple of LOOK_EVERY, when the visitor is full, or when the timelines entered have
-- no entry of NOW's day yet. That is rare, so it costs little. Settling comes to further changes, which its record
-- names: they are made next.
local full, size, begun, any_entered, active_today, changed, changed_names = false, nil, 0, false, false, {}, {}
local mark, record, record_changed, pieces = 'H' .. hold, nil, false, 0 -- `pieces` of the record are on the server
local more, next_more, left = nil, 1, changes
while left > 0 or (more and more[next_more]) do
  local kind, at, weight, keep, head, name, changes_timeline, raw
  if more and more[next_more] then
    kind, at, weight, keep, head, name = unpack(more[next_more])
    next_more = next_more + 1
  else
    kind, at, weight, keep, head, name, pos = unpack_bytes('>BI4I2I2I2I2c0', program, pos)
    left = left - 1
    if name == '' then name = mark end
  end
  if kind <= REMOVE then
    raw = timeline(name)
    local latest = raw and unpack_bytes('>I4', raw, #raw - ENTRY + 1) or 0
    if kind == RECORDED and raw then -- a record never cuts what a newer policy keeps
      local known = unpack_bytes('>I2', raw)
      local shield = known >= SHIELD or head >= SHIELD
      keep = math.max(keep, (#raw - HEAD) / ENTRY)
      if horizon(known) > horizon(head) then head = known end
      if shield and head < SHIELD then head = head + SHIELD end
    end
    local oldest = head % 1024 == 0 and now - SLACK + 1 or math.max(now, latest) - horizon(head) - SLACK
    if kind == REMOVE or kind <= ENTER and at >= oldest then
      local place = raw and #raw or HEAD -- bytes before the entry's place: after all that are not later
      if raw and at < latest then
        local low, high = 0, (#raw - HEAD) / ENTRY - 1
        while low < high do
          local middle = math.floor((low + high) / 2)
          if unpack_bytes('>I4', raw, HEAD + middle * ENTRY + 1) > at then high = middle else low = middle + 1 end
        end
        place = HEAD + high * ENTRY
      end
      if kind == REMOVE then
        local first = place
        while first > HEAD and first > place - weight * ENTRY and unpack_bytes('>I4', raw, first - ENTRY + 1) == at do
          first = first - ENTRY
        end
        changes_timeline = first < place
        if changes_timeline then
          raw = sub(raw, 1, first) .. sub(raw, place + 1)
          timelines[name] = #raw > HEAD and raw
        end
      else
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
        changes_timeline = true
      end
    elseif kind == COVER then
      local first, pause
      first, pause, pos = unpack_bytes('>I4I4', program, pos)
      if raw and (#raw - HEAD) % (2 * ENTRY) ~= 0 then
        error({ err = 'CORRUPT a field of ' .. #name .. ' bytes is not a timeline of intervals' })
      end
      if at >= oldest then
        local last, place = at, raw and #raw or HEAD -- bytes before it
        local later = place -- and before what is later
        while place > HEAD do
          local begins, ends = unpack_bytes('>I4I4', raw, place - 2 * ENTRY + 1)
          if first - ends > pause then break end
          place = place - 2 * ENTRY
          if begins - last > pause then
            later = place
          else
            first, last = math.min(first, begins), math.max(last, ends)
          end
        end
        local body = pack_bytes('>I4I4', first, last)
        if raw then body = sub(raw, HEAD + 1, place) .. body .. sub(raw, later + 1) end
        local from = 1
        while unpack_bytes('>I4', body, from + ENTRY) < oldest do from = from + 2 * ENTRY end
        timelines[name] = pack_bytes('>I2', head) .. sub(body, math.max(from, #body - keep * ENTRY + 1))
        changes_timeline = true
      end
    end
    if kind ~= REMOVE then
      if not size then size = call('HLEN', key) end
      full = full or (kind ~= RECORDED and size >= MOST_TIMELINES)
      if changes_timeline then
        if raw then
          any_entered = true
          active_today = active_today or math.floor(latest / DAY) == math.floor(now / DAY)
        else
          begun = begun + 1
        end
        if kind == RECORDED then ttl = math.max(ttl, horizon(head) + 1 + at - now) end
      end
    end
  elseif kind == CLEAR then
    local all = call('HGETALL', key) -- HKEYS would do, but is one more right that a user needs
    for i = 1, #all, 2 do
      local field = all[i]
      local stays = changed[field] or (id ~= '' and (field == '#0' or field == '#1' or field == '#2'))
      if not stays then
        timelines[field], changed[field], changed_names[#changed_names + 1] = false, true, field
      end
    end
    ids, deadline = '', 0
  else -- RESERVE or SETTLE
    local reserved
    if kind == RESERVE then
      reserved, pos = unpack_bytes('>I4c0', program, pos)
      if at <= now - SLACK then reserved = nil end
    end
    local held = (reserved or kind == SETTLE) and timeline(mark)
    if held then -- undo what it reserved
      local ends = unpack_bytes('>I4', held, #held - ENTRY + 1)
      if not record then
        local names = {}
        for i = 0, (#held - HEAD) / ENTRY - 1 do names[i + 1] = '#h' .. hold .. pack_bytes('>I2', i) end
        local found = call('HMGET', key, unpack(names))
        while found[pieces + 1] do pieces = pieces + 1 end
        record = table.concat(found, '', 1, pieces)
      end
      local has = record_changed and math.ceil(#record / PIECE) or pieces -- this very write may have reserved it
      local start, names, moved = 1, {}, (#held - HEAD) / ENTRY > math.max(1, has)
      more = more or {}
      while start <= #record do
        if #record - start < 7 then error({ err = 'CORRUPT the record of a hold' }) end
        local place_weight, place_keep, place_head, length = unpack_bytes('>I2I2I2I2', record, start)
        start = start + 8 + length
        if start > #record + 1 then error({ err = 'CORRUPT the record of a hold' }) end
        local field = sub(record, start - length, start - 1)
        if not moved then
          if timelines['h' .. field] == nil then names[#names + 1] = 'h' .. field end
          more[#more + 1] = { REMOVE, ends, place_weight, 0, 0, 'h' .. field }
        end
        if weight > 0 and place_keep > 0 then
          if timelines[field] == nil then names[#names + 1] = field end
          more[#more + 1] = { RECORDED, at, place_weight, place_keep, place_head, field }
        end
      end
      if #names > 0 then
        local found = call('HMGET', key, unpack(names))
        for i = 1, #names do check(names[i], found[i]) end
      end
      timelines[mark], record, record_changed = false, '', true
      if not changed[mark] then
        changed[mark], changed_names[#changed_names + 1] = true, mark
      end
    end
    if reserved then record, record_changed = reserved, true end
  end
  if changes_timeline and not changed[name] then
    changed[name], changed_names[#changed_names + 1] = true, name
  end
end
if record_changed then
  for i = 0, math.max(pieces, math.ceil(#record / PIECE)) - 1 do
    local name, piece = '#h' .. hold .. pack_bytes('>I2', i), sub(record, i * PIECE + 1, (i + 1) * PIECE)
    timelines[name] = piece ~= '' and piece
    if i >= pieces then begun = begun + 1 end
    if not changed[name] then
      changed[name], changed_names[#changed_names + 1] = true, name
    end
  end
end
if changes > 0 and #changed_names == 0 then return -2 end
local looks = full or (any_entered and not active_today)
if begun > 0 then looks = looks or math.floor((size + begun) / LOOK_EVERY) > math.floor(size / LOOK_EVERY) end
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
-- Timelines whose entries have all expired; if the visitor is full, the oldest that no blocking rule asks about, to
-- have room for ROOM more; and the records of holds that are gone.
if looks and size > 0 then
  local all, shields, interests, latests, records, lasts = call('HGETALL', key), 0, {}, {}, {}, {}
  local leasts = {} -- for each head, the oldest entry that keeps a timeline
  for i = 1, #all, 2 do
    local name, raw = all[i], all[i + 1]
    local initial = sub(name, 1, 1)
    if initial ~= '#' then
      if #raw < HEAD + ENTRY or (#raw - HEAD) % ENTRY ~= 0 then
        error({ err = 'CORRUPT a field of ' .. #name .. ' bytes is not a valid timeline' })
      end
      local head, latest = unpack_bytes('>I2', raw), unpack_bytes('>I4', raw, #raw - ENTRY + 1)
      local least = leasts[head]
      if not least then
        least = now - horizon(head) - SLACK
        leasts[head] = least
      end
      if latest < least then
        if not changed[name] then to_delete[#to_delete + 1] = name end
      else
        if initial == 'H' then lasts[name] = true end
        if head >= SHIELD then
          shields = shields + 1
        else
          interests[#interests + 1], latests[#latests + 1] = name, latest
        end
      end
    elseif sub(name, 1, 2) == '#h' then
      records[#records + 1] = name
    end
  end
  for i = 1, #records do
    local name = records[i]
    local its_hold = 'H' .. sub(name, 3, 7)
    local lives = lasts[its_hold]
    if changed[its_hold] then lives = timelines[its_hold] end
    if not lives and not changed[name] then to_delete[#to_delete + 1] = name end
  end
  if full and shields + #interests >= MOST_TIMELINES then
    if shields >= MOST_TIMELINES then return -1 end
    local excess = math.min(shields + #interests - MOST_TIMELINES + ROOM, #interests)
    local in_order, equally_old = {}, {}
    for i = 1, #latests do in_order[i] = latests[i] end
    table.sort(in_order)
    local last = in_order[excess]
    for i = 1, #interests do
      local name = interests[i]
      if latests[i] < last then
        excess = excess - 1
        if not changed[name] then to_delete[#to_delete + 1] = name end
      elseif latests[i] == last then
        equally_old[#equally_old + 1] = name
      end
    end
    table.sort(equally_old) -- by name, so that every store evicts the same
    for i = 1, excess do
      if not changed[equally_old[i]] then to_delete[#to_delete + 1] = equally_old[i] end
    end
  end
end

-- 6. Remember the id.
if id ~= '' then
  ttl = math.max(ttl, DAY)
  deadline = math.min(math.max(deadline, now + ttl), LAST_MOMENT)
  ids = pack_bytes('>I4', deadline) .. sub(ids .. id .. outcome, -IDS_KEPT * RECORD)
  for i = 0, 2 do
    local piece = sub(ids, i * PIECE + 1, (i + 1) * PIECE)
    if piece ~= '' then
      to_set[#to_set + 1] = '#' .. i
      to_set[#to_set + 1] = piece
    elseif first_read[i + 2] then
      to_delete[#to_delete + 1] = '#' .. i
    end
  end
end

-- 7. Write.
-- Nothing can fail from here on: a server out of memory refuses the script before it begins.
if #to_set > 0 then
  local ttl_left = call('TTL', key)
  for i = 1, #to_set, MOST_WORDS do call('HSET', key, unpack(to_set, i, math.min(i + MOST_WORDS - 1, #to_set))) end
  if ttl_left < ttl + SLACK then call('EXPIRE', key, ttl + SLACK) end
end
for i = 1, #to_delete, MOST_WORDS do -- last: a hash that loses all its fields loses its TTL
  call('HDEL', key, unpack(to_delete, i, math.min(i + MOST_WORDS - 1, #to_delete)))
end
return number
