-- Semaphores: leases, weights, strict first-come order, fencing tokens.
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
--   often, see `batch`. The next call goes on from there. As long as someone overdue may still be counted, nothing is
--   granted. Only `reset` takes time in proportion to the queue.
--
-- KEYS  1  a sorted set, which holds all there is of the semaphore: one key stays usable while its slot moves to
--          another node. It is forgotten an hour after its last use, or when the last lease ends if that is later.
--            member      score               meaning
--            C<packed>   -6e15               the counters, see `counters`: the first of all members
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
--         keep id lease fence               its lease ends `lease` from now; fence: what it holds by; 0: it waits
--         resize capacity                   counts for everyone, whatever they think; 0: no longer
--         reset                             all holders and waiters go, and so does what resize set
--         look count                        lists the first `count` holders and waiters, at most 1000 of each
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
--         `since`: a notice grants this place in the queue only if its fence is greater
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

-- What an id says: its weight, the capacity that counts for it, and its client. `capacity`: as resize set it, or 0.
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

-- The queue begins with what is in `front` from `head` to `last`. Who leaves it, or gets into its middle, sets `last` to
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

return format('%.0f %.0f\n%s\n%s', serverTime, chance, concat(notices[client], ','), concat(results, ','))
