// Generated from lua/ by `npm run generate`.

export const inspectTokenBucketScript: string = `-- Token buckets: what is remembered of one, for whoever looks into it.
--
-- Guarantees
--   Reads only: the bucket is as before, and lives no longer than before.
--
-- KEYS  1  a bucket, as token-bucket.lua stores it
--
-- Reply nothing if nothing is remembered, otherwise
--       1 now, by the server's clock: microseconds since 1970
--       2 the rules: 'capacity amount interval origin initial expiry', in millionths of a token and microseconds
--       3 to 13 the state: level slot at tail tailSerial serial born surplus held since taken
--       What these are is told in src/internal/bucket.ts.

local packed = redis.call('HGET', KEYS[1], 's')
if not packed then return false end
local time = redis.call('TIME')
local level, slot, at, tail, serial, born, taken, capacity, amount, interval, origin, initial, expiry, expires, behind =
  struct.unpack('<dddddddddddddd', packed)
local tailSerial, surplus, held, since = 0, 0, 0, 0
if tail > at then tailSerial, surplus, held, since, behind = struct.unpack('<dddd', packed, behind) end
return {
  time[1] * 1000000 + time[2], string.sub(packed, behind),
  level, slot, at, tail, tailSerial, serial, born, surplus, held, since, taken
}
`

export const presenceScript: string = `-- Whether the server can decide about limiters: it must run scripts, and let them write.
--
-- Guarantees
--   Changes nothing. A server that is a replica, out of memory, loading its data or otherwise not to be written to
--   refuses the command, as it would refuse those of a limiter.
--
-- KEYS  1  a key that nobody uses, in the slot of the limiters in question
-- Reply 1

redis.call('SET', KEYS[1], '', 'XX', 'PX', 1)
return 1
`

export const semaphoreScript: string = `-- Semaphores: leases, weights, strict first-come order, fencing tokens.
--
-- Guarantees
--   The weights of the holders never exceed the capacity. A lease ends by the server's clock; the next call, whoever
--   makes it, drops the holder and gives what it held to the waiters.
--   First come, first served: the head of the queue waits until its weight fits, and nobody passes it meanwhile.
--   Everything may be sent again: an id that holds or waits is answered as before, one that does neither is released
--   without effect.
--   A fencing token is greater than every fencing token and every ticket before it, and not less than the time.
--   Renewals and releases go through when the server refuses to use more memory.
--   Time never runs backwards. When the server's clock is set back, the semaphore adds the difference from then on, so
--   that no lease is stretched by it.
--   The work of a call is bounded: it drops at most so many leases and so many overdue waiters, and grants at most as
--   often, see \`batch\`. The next call goes on from there. As long as someone overdue may still be counted, nothing is
--   granted. Only \`reset\` takes time in proportion to the queue.
--
-- KEYS  1  a sorted set, which holds all there is of the semaphore: one key stays usable while its slot moves to
--          another node. It is forgotten an hour after its last use, or when the last lease ends if that is later.
--            member      score               meaning
--            C<packed>   -6e15               the counters, see \`counters\`: the first of all members
--            <id>        -3e15 + ticket      waits; the lowest ticket is the head of the queue
--            <id>        fencing token       holds
--            G<id>       3e15 + moment       waits no longer than until then
--            L<id>       6e15 + moment       holds or waits, and is dropped then unless it renews before
--          The ranges of the five classes don't overlap. Values are integers below 3e15 (microseconds since 1970 get
--          there in 2065), so that every score is exact in a double.
--
-- ARGV  times and durations are microseconds, all integers
--       1 now          microseconds since 1970; 0: ask the server's clock
--       2 client       name of the calling process, [A-Za-z0-9_-]+
--       3 notAfter     change nothing new after this time by the server's clock, for nobody waits for the answer any
--                      more; 0: no limit
--       4 publish      PUBLISH or SPUBLISH; '': tell nobody
--       5 grace        for how long after its start a server without this key grants nothing, so that holders whose
--                      leases were lost with the data come back: one lease; 0: not at all
--       then the operations, at most 5000, served in order
--         acquire id lease giveUp ticket    giveUp: waits for so long; 0: not at all; -1: for ever
--                                           ticket: its old place in the queue; 0: the end of it
--         release id                        gives back what it holds, or leaves the queue
--         revoke id                         takes away what it holds, and tells its client
--         keep id lease fence               its lease ends \`lease\` from now; fence: what it holds by; 0: it waits
--         resize capacity                   counts for everyone, whatever they think; 0: no longer
--         reset                             all holders and waiters go, and so does what resize set
--         look count                        lists the first \`count\` holders and waiters, at most 1000 of each
--       An id is weight.capacity.client.serial: how many permits it is about, how many there are as its client sees it,
--       its client, and [A-Za-z0-9_-]+ that this client uses once.
--
-- Reply one string, which is read faster than nested arrays; three lines of phrases that are separated by commas
--       1 now next             now: by the server's clock; next: time until a call may find that more can be granted,
--                              for a lease may end then, and none does before; 0: at once, for work was left; -1: nobody
--                              waits
--       2 the notices for the calling client. They happened later than what the same call answers about the same id
--       3 for each operation
--           acquire   held fence | queued ticket since | busy (giveUp was 0) | refused capacity (too large) | late
--           release   released (it held) | left (it waited) | unknown
--           revoke    released | unknown (it does not hold)
--           keep      held fence | queued ticket since | unknown (it lost, or its place is gone) | late
--           resize    resized | late
--           reset     reset fence | late
--           look      look capacity used waiting holders waiters
--                       capacity: what resize set, or 0; used: the weight of all holders
--                       holders: id:weight:fence:left each, in order of their grants; left: what their lease has left
--                       waiters: id:weight:ticket:left each, in order of the queue
--                       both are separated by semicolons, and empty if there are none
--         \`since\`: a notice grants this place in the queue only if its fence is greater
--
-- Notices go to the channel <key>:<client>, all for one client in one message, phrases separated by commas
--       grant id fence       it holds
--       refuse id capacity   it waited, and has become too large
--       revoke id fence      it held by that fence, and does so no longer
--       reset * fence        who holds by a lower fence has lost, who waits since a lower token has left the queue

-- A function that refers to variables outside of it costs each call a quarter of a microsecond. Therefore these don't,
-- and what follows them is one piece.

local function nextToken(token, now)
  return token < now and now or token + 1
end

local function weightOf(id)
  return tonumber(id:match('^%d+'))
end

-- What an id says: its weight, the capacity that counts for it, and its client. \`capacity\`: as resize set it, or 0.
local function partsOf(id, capacity)
  local weight, own, owner = id:match('^(%d+)%.(%d+)%.([^.]+)')
  return tonumber(weight), capacity > 0 and capacity or tonumber(own), owner
end

local function notify(notices, receiver, notice)
  local list = notices[receiver] or {}
  notices[receiver] = list
  list[#list + 1] = notice
end

-- The members of a class with the lowest values, up to a value.
local function lowest(key, class, upTo, count, ...)
  return redis.call('ZRANGEBYSCORE', key, class, class + upTo, 'LIMIT', 0, count, ...)
end

local firstOperation = 6
local arguments = { acquire = 4, release = 1, revoke = 1, keep = 3, resize = 1, reset = 0, look = 1 }

-- All are checked before the first has an effect: an error half-way would leave the counters wrong.
local ids, releases, mustSucceed = {}, 0, false
local at = firstOperation
while at <= #ARGV do
  local operation = ARGV[at]
  if at + (arguments[operation] or #ARGV) > #ARGV then
    return redis.error_reply('ERR malformed operation ' .. operation)
  end
  if operation == 'release' then releases = releases + 1 end
  mustSucceed = mustSucceed or operation == 'keep' or operation == 'release' or operation == 'revoke'
  if arguments[operation] > 0 then ids[#ids + 1] = ARGV[at + 1] end
  at = at + 1 + arguments[operation]
end

local key, client, call = KEYS[1], ARGV[2], redis.call
local tonumber, max, min, format, concat = tonumber, math.max, math.min, string.format, table.concat
-- Two milliseconds or three, with a hundred thousand in the queue.
local batch = 200

-- Where the scores of each class begin.
local width = 3e15
local queue, holders, giveUps, leases = -width, 0, width, 2 * width

-- A server that is out of memory refuses the first write of a script, unless that one frees some, and none after it.
if mustSucceed then call('ZREM', key, '') end

-- Reading ---------------------------------------------------------------------------------------------------------

-- The counters, and as much of the queue as will be looked at: mostly, each release lets one in.
local front = call('ZRANGE', key, '0', releases > 0 and releases + 1 or '0')
local stored = front[1]

-- More than 64 bytes in one member also keep Redis from storing small sets as lists, which it searches from the start.
local counterScore, counters = '-6e15', '<dddddddddd'
local used = 0 -- weight of all holders
local waiting = 0 -- length of the queue
local token = 0 -- the last fencing token or ticket
local capacity = 0 -- as resize set it, or 0
local clock = 0 -- time of the last change
local lag = 0 -- how far the server's clock is behind
local graceEnd = 0 -- nothing is granted before, or 0
local leaseDue = width -- no lease ends before
local giveUpDue = width -- nobody gives up before
local unserved = 0 -- 1 if the call before left work
if stored then
  used, waiting, token, capacity, clock, lag, graceEnd, leaseDue, giveUpDue, unserved = struct.unpack(counters, stored, 2)
end

-- The queue begins with what is in \`front\` from \`head\` to \`last\`. Who leaves it, or gets into its middle, sets \`last\` to
-- 0.
local head, last = 2, min(#front, 1 + waiting)

-- By id: the score with which it holds or waits; false if it does so no more, which may not be written yet.
local places = {}
if ids[1] then
  local scores = call('ZMSCORE', key, unpack(ids))
  for i = 1, #ids do places[ids[i]] = tonumber(scores[i]) end
end

local serverTime = tonumber(ARGV[1])
if serverTime == 0 then
  local time = call('TIME')
  serverTime = tonumber(time[1]) * 1e6 + tonumber(time[2])
end
lag = max(lag, clock - serverTime)
local now = serverTime + lag
local notAfter = tonumber(ARGV[3])
local late = notAfter > 0 and serverTime > notAfter

local grace = tonumber(ARGV[5])
if not stored and grace > 0 then
  -- Where it can't be read, the server counts as old. Whole seconds may be one too many.
  local info = redis.pcall('INFO', 'server')
  local uptime = type(info) == 'string' and info:match('uptime_in_seconds:(%d+)')
  if uptime then graceEnd = now + grace - (tonumber(uptime) - 1) * 1e6 end
end

-- Deciding --------------------------------------------------------------------------------------------------------

local changed = false
local longestLease = 0 -- of those that this call set
local leasesMoved = false -- the first to end may be another now
local workLeft = false -- for the next call
local headMayFit = unserved == 1
if graceEnd > 0 and graceEnd <= now then graceEnd, headMayFit = 0, true end

if now >= leaseDue or now >= giveUpDue then
  local function dropOverdue(class)
    local overdue = lowest(key, class, now, batch)
    for _, member in ipairs(overdue) do
      local id = member:sub(2)
      if tonumber(call('ZSCORE', key, id)) < holders then waiting = waiting - 1 else used = used - weightOf(id) end
      call('ZREM', key, id, 'L' .. id, 'G' .. id)
      places[id] = nil
      changed, headMayFit, last = true, true, 0
    end
    workLeft = workLeft or #overdue == batch
    local first = lowest(key, class, width - 1, 1, 'WITHSCORES')[2]
    return first and tonumber(first) - class or width
  end
  if now >= leaseDue then leaseDue = dropOverdue(leases) end
  if now >= giveUpDue then giveUpDue = dropOverdue(giveUps) end
end

-- What is decided is written in one go: at the end, or before something is read anew.
local added, removed = {}, {}
local function write()
  -- In this order, for a key that vanished half-way could not be written again while its slot moves.
  for i = 1, #added, 1000 do call('ZADD', key, unpack(added, i, min(i + 999, #added))) end
  for i = 1, #removed, 1000 do call('ZREM', key, unpack(removed, i, min(i + 999, #removed))) end
  added, removed = {}, {}
end

local notices, results = { [client] = {} }, {}
at = firstOperation
while true do
  local operation, id = ARGV[at], ARGV[at + 1]

  -- Releases that come together free their permits together. Everything else finds the queue served, as the end does.
  if headMayFit and operation ~= 'release' then
    headMayFit = false
    local served = 0
    -- Nothing is granted in a grace, for leases may have been lost with the data, nor while somebody overdue may still
    -- be counted.
    while waiting > 0 and served < batch and graceEnd == 0 and not workLeft do
      if head > last then
        write()
        front = lowest(key, queue, width - 1, 8)
        head, last = 1, #front
      end
      local first = front[head]
      local weight, limit, owner = partsOf(first, capacity)
      if weight > limit then
        local n = #removed
        removed[n + 1], removed[n + 2] = first, 'L' .. first
        places[first] = false
        notify(notices, owner, format('refuse %s %.0f', first, limit))
      elseif used + weight > limit then
        break
      else
        token = nextToken(token, now)
        used = used + weight
        local fence, n = format('%.0f', token), #added
        added[n + 1], added[n + 2] = fence, first
        places[first] = token
        notify(notices, owner, 'grant ' .. first .. ' ' .. fence)
      end
      if giveUpDue < width then removed[#removed + 1] = 'G' .. first end
      waiting = waiting - 1
      head, served, changed = head + 1, served + 1, true
    end
    workLeft = workLeft or served == batch and waiting > 0
  end

  if not operation then break end
  local place, result = places[id], nil

  if operation == 'release' or operation == 'revoke' then
    if not place or operation == 'revoke' and place < holders then
      result = 'unknown'
    else
      local n = #removed
      removed[n + 1], removed[n + 2] = id, 'L' .. id
      places[id] = false
      changed, headMayFit = true, true
      if place < holders then
        removed[n + 3] = 'G' .. id
        waiting, last = waiting - 1, 0
        result = 'left'
      else
        used = used - weightOf(id)
        result = 'released'
      end
      if operation == 'revoke' then
        local _, _, owner = partsOf(id, capacity)
        notify(notices, owner, format('revoke %s %.0f', id, place))
      end
    end

  elseif operation == 'acquire' or operation == 'keep' then
    -- What is removed is written last.
    if place == false then write() end
    if place then
      -- However often an id asks, the answer is the same while it holds or waits.
      leasesMoved = true
    elseif operation == 'keep' then
      -- As long as nothing was granted, a holder can be unknown only because the data was lost: it still holds.
      local fence = tonumber(ARGV[at + 3])
      if fence == 0 or graceEnd == 0 then result = 'unknown'
      elseif late then result = 'late'
      else
        token = max(token, fence)
        used = used + weightOf(id)
        place = fence
      end
    elseif late then
      result = 'late'
    else
      local weight, limit = partsOf(id, capacity)
      local giveUp, ticket = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
      if weight > limit then result = format('refused %.0f', limit)
      elseif waiting == 0 and used + weight <= limit and graceEnd == 0 and not workLeft then
        token = nextToken(token, now)
        used = used + weight
        place = token
      elseif giveUp == 0 then result = 'busy'
      else
        if ticket == 0 then ticket = nextToken(token, now) else headMayFit, last = true, 0 end
        token = max(token, ticket)
        waiting = waiting + 1
        place = queue + ticket
        if giveUp > 0 then
          local ends, n = min(now + giveUp, width - 1), #added
          added[n + 1], added[n + 2] = giveUps + ends, 'G' .. id
          giveUpDue = min(giveUpDue, ends)
        end
      end
    end
    if place then
      local duration = tonumber(ARGV[at + 2])
      local ends, n = min(now + duration, width - 1), #added
      added[n + 1], added[n + 2] = leases + ends, 'L' .. id
      longestLease, leaseDue = max(longestLease, duration), min(leaseDue, ends)
      if not places[id] then
        added[n + 3], added[n + 4] = place, id
        places[id] = place
      end
      changed = true
      if place < holders then result = format('queued %.0f %.0f', place - queue, token)
      else result = format('held %.0f', place) end
    end

  elseif operation == 'look' then
    write()
    local function list(class)
      local found = lowest(key, class, width - 1, min(tonumber(id), 1000), 'WITHSCORES')
      local listed = {}
      for i = 1, #found, 2 do
        local leaseEnd = tonumber(call('ZSCORE', key, 'L' .. found[i])) - leases
        local weight, value = weightOf(found[i]), tonumber(found[i + 1]) - class
        listed[#listed + 1] = format('%s:%.0f:%.0f:%.0f', found[i], weight, value, leaseEnd - now)
      end
      return concat(listed, ';')
    end
    result = format('look %.0f %.0f %.0f %s %s', capacity, used, waiting, list(holders), list(queue))

  elseif late then
    result = 'late'

  elseif operation == 'resize' then
    changed, headMayFit = true, true
    capacity = tonumber(id)
    result = 'resized'

  elseif operation == 'reset' then
    write()
    token = nextToken(token, now)
    result = format('reset %.0f', token)
    local told = {}
    for _, member in ipairs(lowest(key, leases, width - 1, -1)) do
      local _, _, owner = partsOf(member:sub(2), capacity)
      if not told[owner] then notify(notices, owner, format('reset * %.0f', token)) end
      told[owner] = true
    end
    call('ZREMRANGEBYSCORE', key, queue, '+inf')
    places, last = {}, 0
    used, waiting, capacity, graceEnd = 0, 0, 0, 0
    leaseDue, giveUpDue = width, width
    changed, workLeft = true, false
  end

  results[#results + 1] = result
  at = at + 1 + arguments[operation]
end

local chance = -1
if waiting > 0 then
  if leasesMoved then
    write()
    leaseDue = tonumber(lowest(key, leases, width - 1, 1, 'WITHSCORES')[2]) - leases
  end
  chance = graceEnd > 0 and min(leaseDue, graceEnd) - now or leaseDue - now
  if workLeft then chance = 0 end
end

-- Writing ---------------------------------------------------------------------------------------------------------

if changed then
  local new = 'C' .. struct.pack(counters, used, waiting, token, capacity, now, lag, graceEnd, leaseDue, giveUpDue,
    workLeft and 1 or 0)
  if new ~= stored then
    local n = #added
    added[n + 1], added[n + 2] = counterScore, new
    removed[#removed + 1] = stored
  end
  write()

  -- Its life is renewed once a minute, or when a lease might outlive it: cheaper than in every call, here and for
  -- replicas.
  local minute, hour = 60e6, 3600e6
  local sameMinute = math.floor(now / minute) == math.floor(clock / minute)
  if not sameMinute or longestLease >= hour / 2 then
    local lastLease = tonumber(call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]) - leases
    call('PEXPIRE', key, math.ceil(max(hour, lastLease - now) / 1000))
  end
end

-- A server may forbid to publish; that must not undo what was granted.
local publish = ARGV[4]
for receiver, list in pairs(notices) do
  if publish ~= '' and receiver ~= client then redis.pcall(publish, key .. ':' .. receiver, concat(list, ',')) end
end

return format('%.0f %.0f\\n%s\\n%s', serverTime, chance, concat(notices[client], ','), concat(results, ','))
`

export const tokenBucketScript: string = `-- Token buckets: decide about requests for tokens, in order, each at once and for good.
--
-- Guarantees
--   In any window of time a bucket admits no more than its capacity and what refilled in that window, whatever is
--   cancelled, settled or paused meanwhile. Whoever has to wait is told how long, in order of arrival, and never later
--   again.
--   A refusal consumes nothing. Time is the server's. A call that is repeated because its reply was lost is not
--   decided again: the answers are remembered, under the client's name, in the first bucket that can be read.
--
-- How a bucket decides is told in src/internal/bucket.ts, line by line the same: units are millionths of a token, times
-- are microseconds, all are integers below 2^53.
--
-- KEYS  one per bucket: a hash of
--         s            the state and its rules, as packed below
--         c<client>    what the client was last told, as the reply tells it
-- ARGV  1 now          microseconds since 1970; 0: ask the server's clock
--       2 client       '' if nothing needs to be remembered
--       3 call         the client's number for this call, from 1 on; a repeated call has the same
--       4 notAfter     decide nothing after this time, for nobody waits for the answer any more; 0: no limit
--       then for as many buckets in a row as are asked alike
--         buckets      how many they are
--         rules        the caller's: 'capacity amount interval origin initial expiry'; '' if they are those of the
--                      buckets before
--         words        how many words follow, of as many operations:
--           reserve amount maxWait times    (equal requests in a row)
--           giveBack amount reserved serial beforeSerial beforeGap taken level ahead    (a reservation as the reply gave
--             it; ahead is -1, and level 0, unless it ran later than its bucket alone would have had it)
--           charge amount
--           pause duration
--           look amount
--           reset
--       then, to be decided after all of these, requests to several buckets at once, each of them:
--         minWait maxWait times buckets, and for each bucket: its place in KEYS, amount, and 1 if the request may wait
--           because of this one and not only because of others, or else 0
-- Reply: numbers, packed as doubles
--       1 call         or, if it is repeated, the time that has passed since it was decided, as 0 or less: of the waits
--                      so much has passed
--       2 decided      when that was
--       3 notes        on so many buckets, or -1 and no more: it was too late, and nothing was decided
--       then for each note
--         the bucket's place in KEYS, and 1 if it was remembered with other rules than the caller's, or 2, the length
--         of the error that its key answered with, and that error: nothing else is answered about this bucket
--       then for each bucket and operation
--         reserve   times code value serial beforeSerial beforeGap taken, as often as it needs for all of them: so many
--                   in a row are answered alike, but that each has the next serial and has taken as much again
--                   code 0: value is the wait, 1: it would be this, too long, 2: a quota has only this left
--         giveBack  what was returned
--         look      available wait nextToken (a wait of -1: none would help)
--       then for each request to several buckets
--         times code value bucket, as often as it needs for all of them, alike as above
--         code 0: value is the wait, 1: it would be this, too long, 2: a quota has only this left, 3: a key answered with
--         an error; bucket is the place, in the request, of the one that refuses
--         and if the code is 0, for each bucket: serial beforeSerial beforeGap taken level ahead

local maxSpan = 40 * 365 * 86400000000
local maxAmount = 4000000000 * 1000000
local maxCount = 2 ^ 53 - 1

-- The decision ---------------------------------------------------------------------------------------------------

local function forgottenAt(state, rules)
  local idle = math.max(state.at, state.tail)
  if state.amount > 0 and state.level < state.capacity then
    idle = math.max(idle, state.slot + math.ceil((state.capacity - state.level) / state.amount) * state.interval)
  end
  return idle + rules.expiry
end

local function advance(state, time)
  state.at = time
  if state.amount == 0 or time < state.slot + state.interval then return end
  local refills = math.floor((time - state.slot) / state.interval)
  state.level = math.min(state.capacity, state.level + refills * state.amount)
  state.slot = state.slot + refills * state.interval
end

local function runsAt(state, amount)
  local missing = amount - state.level
  if missing <= 0 then return math.max(state.tail, state.at) end
  if state.amount == 0 or missing > maxAmount then return nil end
  local span = math.ceil(missing / state.amount) * state.interval
  if span > maxSpan then return nil end
  return math.max(state.tail, state.slot + span)
end

-- So many requests alike that run at once, or one.
local function take(state, amount, runs, alike)
  local now = state.at
  local serial = math.max(state.serial + 1, now)
  local taken = state.taken + amount
  if taken > maxCount then taken, state.born = amount, serial end
  state.taken = taken + (alike - 1) * amount
  state.level = state.level - alike * amount
  state.serial = serial + alike - 1
  if state.tail <= now then state.surplus, state.held, state.since = 0, 0, state.serial end
  if runs > now then
    state.tail, state.tailSerial = runs, serial
    state.held = math.max(state.held, amount)
  end
  return serial, taken
end

-- Decides about as many of these requests as are answered alike: those that don't wait, and those that are refused. Gives
-- how many, and 0 wait, 1 wait (too long) or 2 available (empty); changes the state only in the first case.
local function reserve(state, amount, maxWait, times)
  local runs = runsAt(state, amount)
  if not runs then
    if state.amount == 0 then return times, 2, math.max(0, state.level), 0, 0, 0, 0 end
    return times, 1, maxSpan, 0, 0, 0, 0
  end
  local wait = runs - state.at
  if wait > maxWait then return times, 1, wait, 0, 0, 0, 0 end
  local beforeSerial, beforeGap = state.tailSerial, runs - state.tail
  local alike = 1
  if wait == 0 and times > 1 then alike = math.min(times, math.floor(state.level / amount)) end
  if state.taken + alike * amount > maxCount then alike = 1 end
  local serial, taken = take(state, amount, runs, alike)
  return alike, 0, wait, serial, beforeSerial, beforeGap, taken
end

-- What most calls don't need is made for those that do, for each function costs, and most of all if it uses much of what
-- stands around it.
local function makeRest()
  local unitsPerToken = 1000000
  -- From so many clients on the forgotten ones are looked for.
  local manyClients = 32

  local function gridFloor(time, origin, interval)
    local past = math.fmod(time - origin, interval)
    if past < 0 then return time - past - interval end
    return time - past
  end

  local function firstSlot(rules, time)
    if rules.amount > 0 and rules.origin >= 0 then return gridFloor(time, rules.origin, rules.interval) end
    return time
  end

  local function fresh(rules, now)
    return {
      level = rules.initial, slot = firstSlot(rules, now), at = now, tail = now, tailSerial = 0, serial = now, born = now,
      surplus = 0, held = 0, since = now, taken = 0,
      capacity = rules.capacity, amount = rules.amount, interval = rules.interval, origin = rules.origin
    }
  end

  local function setBack(state, now)
    local by = state.at - now
    local shifted = state.slot - by
    local lower = shifted
    if state.origin >= 0 and state.amount > 0 then lower = gridFloor(shifted, state.origin, state.interval) end
    if lower < shifted then state.slot = lower + state.interval else state.slot = lower end
    state.tail = state.tail - by
    state.at = now
  end

  local function broughtBy(rules, from, til)
    if rules.amount > 0 then return ((til - from) * rules.amount) / rules.interval end
    return 0
  end

  local function adopt(state, rules)
    local now = state.at
    local begins = math.max(now, state.tail, state.slot)
    local busy = state.tail > now
    advance(state, begins)
    local slot = firstSlot(rules, begins)
    local carried = 0
    if rules.amount > 0 and rules.origin >= 0 then
      local til = begins
      if state.origin >= 0 then til = math.max(slot, state.slot) end
      carried = math.floor(broughtBy(state, state.slot, til) - broughtBy(rules, slot, til))
    elseif rules.amount > 0 then
      local value = broughtBy(state, state.slot, begins)
      carried = math.floor(value / rules.amount) * rules.amount
      slot = slot - math.min(rules.interval - 1, math.floor(((value - carried) * rules.interval) / rules.amount))
    end
    state.level = math.min(rules.capacity, math.max(-maxAmount, math.min(state.level, rules.capacity) + carried))
    state.slot, state.at = slot, now
    if busy then state.tailSerial = 0 end
    if state.amount > 0 and rules.amount == 0 then state.born = state.serial + 1 end
    state.capacity, state.amount, state.interval, state.origin =
      rules.capacity, rules.amount, rules.interval, rules.origin
  end

  local function holdOff(state, ends)
    local now = state.at
    local busy = state.tail > now
    advance(state, ends)
    state.held = math.max(0, state.level, busy and state.held + state.surplus or 0)
    state.at, state.tail, state.tailSerial, state.surplus = now, ends, 0, 0
    if not busy then state.since = state.serial + 1 end
  end

  local function reserveAt(state, amount, runs, alike)
    local beforeSerial, beforeGap, level, slot, ahead = state.tailSerial, runs - state.tail, state.level, state.slot, -1
    if runs > runsAt(state, amount) then
      holdOff(state, runs)
      ahead = state.slot - slot
    else
      level = 0
    end
    local serial, taken = take(state, amount, runs, alike)
    return serial, beforeSerial, beforeGap, taken, level, ahead
  end

  -- Decides about as many of these requests as are answered alike. Gives how many, 0 wait, 1 wait (too long) or 2
  -- available (empty), and the place of the bucket that refuses.
  local function waitTogether(states, amounts, mayWait, minWait, maxWait, times)
    local wait, mostPatience, slowest = minWait, minWait, 1
    for part = 1, #states do
      local state = states[part]
      local runs = runsAt(state, amounts[part])
      if not runs and state.amount == 0 then return times, 2, math.max(0, state.level), part end
      local own = runs and runs - state.at or math.huge
      if mayWait[part] then mostPatience = math.max(mostPatience, own) end
      if own > wait then wait, slowest = own, part end
    end
    if wait > maxWait or wait > mostPatience then return times, 1, math.min(wait, maxSpan), slowest end
    local alike = wait == 0 and times or 1
    for part = 1, alike > 1 and #states or 0 do
      local state, amount = states[part], amounts[part]
      alike = math.min(alike, math.floor(state.level / amount))
      if state.taken + alike * amount > maxCount then alike = 1 end
    end
    return alike, 0, wait, 0
  end

  local function asBefore(state, reserved, taken, level, ahead)
    local now = state.at
    local charged = state.taken - taken
    local slot, holds = state.slot, state.level
    state.level, state.slot = level, slot - ahead
    advance(state, slot)
    local returned = holds + reserved + charged - state.level
    state.level, state.slot = math.min(state.capacity, level + returned), slot - ahead
    advance(state, now)
    state.level = state.level - charged
  end

  local function giveBack(state, amount, reserved, serial, beforeSerial, beforeGap, taken, level, ahead)
    if serial < state.born then return 0 end
    local busy = state.tail > state.at
    if busy and serial == state.tailSerial and amount == reserved then
      if ahead < 0 then state.level = math.min(state.capacity, state.level + amount)
      else asBefore(state, reserved, taken, level, ahead) end
      state.taken = state.taken - amount
      state.tail = state.tail - beforeGap
      state.tailSerial = beforeSerial
      return amount
    end
    local takenSince = state.taken - taken
    local ahead, behind = amount, amount
    if state.amount > 0 then
      if busy then ahead = state.capacity - state.held - state.surplus end
      if not busy or serial < state.since then behind = state.capacity - state.level - takenSince end
    end
    local returned = math.max(0, math.min(amount, ahead, behind))
    state.level = state.level + returned
    if takenSince == 0 then state.taken = state.taken - returned end
    if busy then state.surplus = state.surplus + returned end
    return returned
  end

  local function charge(state, amount)
    state.taken = state.taken + amount
    if state.taken > maxCount then state.taken, state.born = amount, state.serial + 1 end
    state.level = math.max(-maxAmount, state.level - amount)
  end

  local function pause(state, duration)
    local now = state.at
    local ends = now + duration
    if ends <= math.max(now, state.tail) then state.tailSerial = 0 else holdOff(state, ends) end
  end

  local function reset(state, rules)
    local serial = math.max(state.serial, state.at)
    local new = fresh(rules, state.at)
    new.serial, new.born = serial, serial + 1
    return new
  end

  local function waitFor(state, amount)
    local runs = runsAt(state, amount)
    if not runs or runs - state.at > maxSpan then return -1 end
    return runs - state.at
  end

  local function look(state, amount)
    local available, wait, nextToken = 0, 0, -1
    if state.tail <= state.at then available = math.max(0, state.level) end
    local more = (math.floor(available / unitsPerToken) + 1) * unitsPerToken
    if amount > 0 then wait = waitFor(state, amount) end
    if more <= state.capacity then nextToken = waitFor(state, more) end
    return available, wait, nextToken
  end

  local function numbers(words, from, til)
    if from > til then return end
    return words[from] + 0, numbers(words, from + 1, til)
  end

  local function parseRules(text)
    local capacity, amount, interval, origin, initial, expiry =
      string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
    return {
      capacity = capacity + 0, amount = amount + 0, interval = interval + 0, origin = origin + 0, initial = initial + 0,
      expiry = expiry + 0, text = text
    }
  end

  -- What clients were told begins with the number of the call and the time.
  local function forgetOldClients(key, before)
    if redis.call('HLEN', key) < manyClients then return end
    local fields = redis.call('HGETALL', key)
    for i = 1, #fields, 2 do
      if fields[i] ~= 's' then
        local _, decided = struct.unpack('<dd', fields[i + 1])
        if decided < before then redis.call('HDEL', key, fields[i]) end
      end
    end
  end

  return {
    fresh = fresh, setBack = setBack, adopt = adopt, giveBack = giveBack, charge = charge, pause = pause, look = look,
    reset = reset, waitTogether = waitTogether, reserveAt = reserveAt, parseRules = parseRules,
    numbers = numbers, forgetOldClients = forgetOldClients
  }
end

local rest
local function the(name)
  rest = rest or makeRest()
  return rest[name]
end

-- Gives the state, whether it was remembered with other rules, and whether time counts from here, so that it has to be
-- remembered whatever comes of the request.
local function load(remembered, rules, now)
  if not remembered or now >= remembered.at + rules.expiry and now >= forgottenAt(remembered, rules) then
    return the('fresh')(rules, now), false, rules.initial < rules.capacity
  end
  local state = remembered
  local starts = now < state.at
  if starts then the('setBack')(state, now) end
  advance(state, now)
  if state.capacity == rules.capacity and state.amount == rules.amount and state.interval == rules.interval
    and state.origin == rules.origin then return state, false, starts end
  the('adopt')(state, rules)
  return state, true, starts
end

-- What is remembered ---------------------------------------------------------------------------------------------

-- The state, the rules that it was remembered with, as numbers and as text, and when its key expires. What only matters
-- while somebody waits is not there otherwise, for every byte of a string costs Redis a nanosecond or two.
local function unpackState(packed)
  local level, slot, at, tail, serial, born, taken, capacity, amount, interval, origin, initial, expiry, expires, behind =
    struct.unpack('<dddddddddddddd', packed)
  local tailSerial, surplus, held, since = 0, 0, 0, 0
  if tail > at then tailSerial, surplus, held, since, behind = struct.unpack('<dddd', packed, behind) end
  return {
    level = level, slot = slot, at = at, tail = tail, tailSerial = tailSerial, serial = serial, born = born,
    surplus = surplus, held = held, since = since, taken = taken, capacity = capacity, amount = amount,
    interval = interval, origin = origin, initial = initial, expiry = expiry, expires = expires,
    text = string.sub(packed, behind)
  }
end

local function packState(state, rules, expires)
  local behind = rules.text
  if state.tail > state.at then
    behind = struct.pack('<dddd', state.tailSerial, state.surplus, state.held, state.since) .. behind
  end
  return struct.pack('<ddddddddddddddc0', state.level, state.slot, state.at, state.tail, state.serial, state.born,
    state.taken, state.capacity, state.amount, state.interval, state.origin, rules.initial, rules.expiry, expires, behind)
end

-- The call -------------------------------------------------------------------------------------------------------

-- For how long a client is remembered. A bucket lives so much longer than needed, lest every call would have to set its
-- lifetime.
local clientSpan = 60000000

-- Adding 0 makes a number of a text, at half the price of tonumber.
local now, client, call, notAfter = ARGV[1] + 0, ARGV[2], ARGV[3] + 0, ARGV[4] + 0
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local field = 'c' .. client
local found = {}
local home, isKnown
for i = 1, #KEYS do
  if home then found[i] = redis.pcall('HGET', KEYS[i], 's')
  else
    local fields = redis.pcall('HMGET', KEYS[i], 's', field)
    if fields.err then found[i] = fields
    else
      local told = fields[2]
      if told then
        local lastCall, decided = struct.unpack('<dd', told)
        if lastCall == call then return struct.pack('<d', math.min(0, decided - now)) .. string.sub(told, 9) end
      end
      found[i], home, isKnown = fields[1], i, told
    end
  end
end
if notAfter > 0 and now > notAfter then return struct.pack('<ddd', call, now, -1) end

-- The first answer begins with what the reply begins with: if it is the only one, that makes one string instead of three.
local buckets, answers, noted, notes = {}, {}, 0, ''
local isChanged = false
local argument, left, text, parsed, first = 5, 0, nil, nil, nil
for i = 1, #KEYS do
  if left == 0 then
    left = ARGV[argument] + 0
    if ARGV[argument + 1] ~= '' then text, parsed = ARGV[argument + 1], nil end
    first = argument + 3
    argument = first + ARGV[argument + 2]
    if ARGV[first] ~= 'reserve' then answers[1] = answers[1] or struct.pack('<ddd', call, now, 0) end
    -- The numbers that several buckets need are read once.
    for word = first, left > 1 and argument - 1 or 0 do ARGV[word] = tonumber(ARGV[word]) or ARGV[word] end
  end
  left = left - 1
  local found = found[i]
  if found and found.err then
    noted, notes = noted + 1, notes .. struct.pack('<ddd', i, 2, #found.err) .. found.err
    buckets[i] = { failed = true }
  else
    local remembered = found and unpackState(found) or nil
    local rules = remembered
    if not remembered or remembered.text ~= text then
      parsed = parsed or the('parseRules')(text)
      rules = parsed
    end
    local expires = remembered and remembered.expires or 0
    local state, disagreed, starts = load(remembered, rules, now)
    if disagreed then noted, notes = noted + 1, notes .. struct.pack('<dd', i, 1) end
    local changed = false
    local at = first
    while at < argument do
      local operation = ARGV[at]
      if operation == 'reserve' then
        local amount, maxWait, times = ARGV[at + 1] + 0, ARGV[at + 2] + 0, ARGV[at + 3] + 0
        repeat
          local alike, code, value, serial, beforeSerial, beforeGap, taken = reserve(state, amount, maxWait, times)
          if answers[1] then
            answers[#answers + 1] = struct.pack('<ddddddd', alike, code, value, serial, beforeSerial, beforeGap, taken)
          else
            answers[1] =
              struct.pack('<dddddddddd', call, now, 0, alike, code, value, serial, beforeSerial, beforeGap, taken)
          end
          times = times - alike
          -- A refusal changes nothing, except that a quota lives on while anyone asks for it.
          if code ~= 1 or starts then changed = true end
        until times == 0
        at = at + 4
      elseif operation == 'giveBack' then
        local returned = the('giveBack')(state, the('numbers')(ARGV, at + 1, at + 8))
        answers[#answers + 1] = struct.pack('<d', returned)
        if returned > 0 then changed = true end
        at = at + 9
      elseif operation == 'charge' then
        the('charge')(state, ARGV[at + 1] + 0)
        changed = true
        at = at + 2
      elseif operation == 'pause' then
        the('pause')(state, ARGV[at + 1] + 0)
        changed = true
        at = at + 2
      elseif operation == 'look' then
        answers[#answers + 1] = struct.pack('<ddd', the('look')(state, ARGV[at + 1] + 0))
        at = at + 2
      else
        state = the('reset')(state, rules)
        changed = true
        at = at + 1
      end
    end
    -- What else the call has to know of a bucket is kept with its state, for another table costs as much as a decision.
    state.rules, state.expires, state.starts, state.changed = rules, expires, starts, changed
    isChanged = isChanged or changed
    buckets[i] = state
  end
end

answers[1] = answers[1] or struct.pack('<ddd', call, now, 0)
while ARGV[argument] do
  local minWait, maxWait = ARGV[argument] + 0, ARGV[argument + 1] + 0
  local times, size = ARGV[argument + 2] + 0, ARGV[argument + 3] + 0
  argument = argument + 4
  local parts, amounts, mayWait, failed = {}, {}, {}, nil
  for part = 1, size do
    parts[part], amounts[part] = buckets[ARGV[argument] + 0], ARGV[argument + 1] + 0
    mayWait[part] = ARGV[argument + 2] == '1'
    if parts[part].failed then failed = failed or part end
    argument = argument + 3
  end
  repeat
    local alike, code, value, refusing = times, 3, 0, failed
    if not failed then
      alike, code, value, refusing = the('waitTogether')(parts, amounts, mayWait, minWait, maxWait, times)
    end
    answers[#answers + 1] = struct.pack('<dddd', alike, code, value, refusing)
    for part = 1, failed and 0 or size do
      local state = parts[part]
      if code == 0 then
        answers[#answers + 1] = struct.pack('<dddddd', the('reserveAt')(state, amounts[part], now + value, alike))
      end
      if code == 0 or state.starts or state.amount == 0 then state.changed, isChanged = true, true end
    end
    times = times - alike
  until times == 0
end

-- Nothing is written before everything is decided.
if noted > 0 then answers[1] = struct.pack('<ddd', call, now, noted) .. notes .. string.sub(answers[1], 25) end
local told = answers[2] and table.concat(answers) or answers[1]
local remembers = isChanged and client ~= ''
if remembers then
  if not isKnown then the('forgetOldClients')(KEYS[home], now - clientSpan) end
  if not buckets[home].changed then
    redis.call('HSET', KEYS[home], field, told)
    if buckets[home].expires < now + clientSpan then
      redis.call('PEXPIREAT', KEYS[home], math.ceil((now + 2 * clientSpan) / 1000))
    end
  end
end
for i = 1, isChanged and #KEYS or 0 do
  local key, state = KEYS[i], buckets[i]
  if state.changed then
    local needed, expires = forgottenAt(state, state.rules), state.expires
    if i == home then needed = math.max(needed, now + clientSpan) end
    local isProlonged = needed > expires
    if isProlonged then expires = needed + clientSpan end
    local packed = packState(state, state.rules, expires)
    if i == home and remembers then redis.call('HSET', key, 's', packed, field, told)
    else redis.call('HSET', key, 's', packed) end
    if isProlonged then redis.call('PEXPIREAT', key, math.ceil(expires / 1000)) end
  end
end
return told
`
