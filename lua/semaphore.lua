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
--            member      score                       meaning
--            C<packed>   -3 width                    the counters, see `sem`: the first of all members
--            Q<id>       base.Q + ticket             waits; the lowest ticket is the head of the queue
--            H<id>       base.H + fencing token      holds
--            G<id>       base.G + moment             waits no longer than until then
--            L<id>       base.L + moment             holds or waits, and is dropped then unless it renews before
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
--       then the operations, served in order
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

local firstOperation = 6
local arguments = { acquire = 4, release = 1, revoke = 1, keep = 3, resize = 1, reset = 0, look = 1 }

-- All are checked before the first has an effect: an error half-way would leave the counters wrong.
local mustSucceed = false
local at = firstOperation
while at <= #ARGV do
  local operation = ARGV[at]
  at = at + 1 + (arguments[operation] or #ARGV)
  if at > #ARGV + 1 then return redis.error_reply('ERR malformed operation ' .. operation) end
  mustSucceed = mustSucceed or operation == 'keep' or operation == 'release' or operation == 'revoke'
end

local key, client, call = KEYS[1], ARGV[2], redis.call
local tonumber, max, min, format, concat = tonumber, math.max, math.min, string.format, table.concat
local width = 3e15
local base = { Q = -2 * width, H = -width, G = 0, L = width }
-- Two milliseconds or three, with a hundred thousand in the queue.
local batch = 200

-- A server that is out of memory refuses the first write of a script, unless that one frees some, as a release does, and
-- none after it.
if mustSucceed and ARGV[firstOperation] ~= 'release' then call('ZREM', key, '') end

-- Time and counters -----------------------------------------------------------------------------------------------

-- More than 64 bytes in one member also keep Redis from storing small sets as lists, which it searches from the start.
local counterScore, counters = '-9e15', '<dddddddddd'
local stored = call('ZRANGE', key, '0', '0')[1]
local used, waiting, token, capacity, clock, lag, graceEnd, leaseDue, giveUpDue, unserved = 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
if stored then
  used, waiting, token, capacity, clock, lag, graceEnd, leaseDue, giveUpDue, unserved = struct.unpack(counters, stored, 2)
end

local serverTime = tonumber(ARGV[1])
if serverTime == 0 then
  local time = call('TIME')
  serverTime = tonumber(time[1]) * 1e6 + tonumber(time[2])
end
local notAfter = tonumber(ARGV[3])
local late = notAfter > 0 and serverTime > notAfter

-- `clock` is the time of the last change, `lag` how far the server's clock is behind.
lag = max(lag, clock - serverTime)
local now = serverTime + lag

local sem = {
  used = used, -- weight of all holders
  waiting = waiting, -- length of the queue
  token = token, -- the last fencing token or ticket
  capacity = capacity, -- as resize set it, or 0
  graceEnd = graceEnd, -- nothing is granted before, or 0
  leaseDue = leaseDue, -- no lease ends before
  giveUpDue = giveUpDue, -- nobody gives up before
  changed = false,
  longestLease = 0, -- of those that this call set
  leasesMoved = false, -- the first to end may be another now
  workLeft = false, -- for the next call
  headMayFit = unserved == 1
}

local grace = tonumber(ARGV[5])
if not stored and grace > 0 then
  -- Where it can't be read, the server counts as old. Whole seconds may be one too many.
  local info = redis.pcall('INFO', 'server')
  local uptime = type(info) == 'string' and info:match('uptime_in_seconds:(%d+)')
  if uptime then sem.graceEnd = now + grace - (tonumber(uptime) - 1) * 1e6 end
end
if sem.graceEnd > 0 and sem.graceEnd <= now then sem.graceEnd, sem.headMayFit = 0, true end

local function nextToken()
  sem.token = max(sem.token + 1, now)
  return sem.token
end

-- Entries ---------------------------------------------------------------------------------------------------------

-- What an id says: its weight, the capacity that counts for it, and its client.
local function partsOf(id)
  local weight, capacity, owner = id:match('^(%d+)%.(%d+)%.([^.]+)')
  return tonumber(weight), sem.capacity > 0 and sem.capacity or tonumber(capacity), owner
end

-- A lease, and what goes with it: the scores and names of other members.
local function lease(id, duration, ...)
  local ends = min(now + duration, width - 1)
  sem.changed = true
  sem.longestLease, sem.leaseDue = max(sem.longestLease, duration), min(sem.leaseDue, ends)
  call('ZADD', key, base.L + ends, 'L' .. id, ...)
end

local function dequeue(id)
  sem.changed = true
  sem.waiting = sem.waiting - 1
  call('ZREM', key, 'Q' .. id, 'G' .. id)
end

-- Every entry has a lease, so that what goes with it tells a holder from a waiter.
local function remove(id)
  local removed = call('ZREM', key, 'L' .. id, 'H' .. id)
  if removed == 0 then return 'unknown' end
  sem.headMayFit = true
  if removed == 1 then
    dequeue(id)
    return 'left'
  end
  sem.changed = true
  sem.used = sem.used - partsOf(id)
  return 'released'
end

-- Notices ---------------------------------------------------------------------------------------------------------

local notices = { [client] = {} }

local function notify(receiver, what, id, number)
  local list = notices[receiver] or {}
  notices[receiver] = list
  list[#list + 1] = format('%s %s %.0f', what, id, number)
end

-- Granting the head -----------------------------------------------------------------------------------------------

-- Nothing is granted in a grace, for leases may have been lost with the data, nor while somebody overdue may still be
-- counted.
local function serveQueue()
  sem.headMayFit = false
  if sem.waiting == 0 or sem.graceEnd > 0 or sem.workLeft then return end
  local served, front = 0, stored and 1 or 0
  repeat
    -- Mostly one is granted, and the one after it has to wait.
    local heads = call('ZRANGE', key, front, front + min(sem.waiting, 2) - 1)
    for _, member in ipairs(heads) do
      local id = member:sub(2)
      local weight, capacity, owner = partsOf(id)
      if served == batch then
        sem.workLeft = true
        return
      elseif weight > capacity then
        remove(id)
        notify(owner, 'refuse', id, capacity)
      elseif sem.used + weight > capacity then
        return
      else
        dequeue(id)
        sem.used = sem.used + weight
        call('ZADD', key, base.H + nextToken(), 'H' .. id)
        notify(owner, 'grant', id, sem.token)
      end
      served = served + 1
    end
  until #heads < 2 or sem.waiting == 0
end

-- Operations ------------------------------------------------------------------------------------------------------

-- However often an id asks, the answer is the same while it holds or waits.
local function renew(id, duration)
  local found = call('ZMSCORE', key, 'H' .. id, 'Q' .. id)
  if not found[1] and not found[2] then return nil end
  sem.leasesMoved = true
  lease(id, duration)
  if found[1] then return format('held %.0f', tonumber(found[1]) - base.H) end
  return format('queued %.0f %.0f', tonumber(found[2]) - base.Q, sem.token)
end

local function acquire(id, duration, giveUp, ticket)
  if late then return 'late' end
  local weight, capacity = partsOf(id)
  if weight > capacity then return format('refused %.0f', capacity) end
  if sem.waiting == 0 and sem.used + weight <= capacity and sem.graceEnd == 0 and not sem.workLeft then
    sem.used = sem.used + weight
    lease(id, duration, base.H + nextToken(), 'H' .. id)
    return format('held %.0f', sem.token)
  end
  if giveUp == 0 then return 'busy' end
  if ticket == 0 then
    ticket = nextToken()
  else
    sem.token = max(sem.token, ticket)
    sem.headMayFit = true
  end
  sem.waiting = sem.waiting + 1
  if giveUp < 0 then
    lease(id, duration, base.Q + ticket, 'Q' .. id)
  else
    local ends = min(now + giveUp, width - 1)
    sem.giveUpDue = min(sem.giveUpDue, ends)
    lease(id, duration, base.Q + ticket, 'Q' .. id, base.G + ends, 'G' .. id)
  end
  return format('queued %.0f %.0f', ticket, sem.token)
end

-- What most calls don't need is made for those that do: each function costs a call a quarter of a microsecond.
local function makeRest()
  -- The members of a class with the lowest values, up to a value.
  local function lowest(class, upTo, count, ...)
    return call('ZRANGEBYSCORE', key, base[class], base[class] + upTo, 'LIMIT', 0, count, ...)
  end

  -- The lowest value of a class.
  local function firstOf(class)
    local score = lowest(class, width - 1, 1, 'WITHSCORES')[2]
    return score and tonumber(score) - base[class] or width
  end

  local function dropOverdue(class)
    local overdue = lowest(class, now, batch)
    for _, member in ipairs(overdue) do remove(member:sub(2)) end
    sem.workLeft = sem.workLeft or #overdue == batch
    return firstOf(class)
  end

  local function revoke(id)
    local score = call('ZSCORE', key, 'H' .. id)
    if not score then return 'unknown' end
    local _, _, owner = partsOf(id)
    notify(owner, 'revoke', id, tonumber(score) - base.H)
    return remove(id)
  end

  -- As long as nothing was granted, a holder can be unknown only because the data was lost: it still holds.
  local function recover(id, duration, fence)
    if fence == 0 or sem.graceEnd == 0 then return 'unknown' end
    if late then return 'late' end
    sem.token = max(sem.token, fence)
    sem.used = sem.used + partsOf(id)
    lease(id, duration, base.H + fence, 'H' .. id)
    return format('held %.0f', fence)
  end

  local function resize(capacity)
    if late then return 'late' end
    sem.changed, sem.headMayFit = true, true
    sem.capacity = tonumber(capacity)
    return 'resized'
  end

  local function reset()
    if late then return 'late' end
    local clients = {}
    for _, member in ipairs(lowest('L', width - 1, -1)) do
      local _, _, owner = partsOf(member:sub(2))
      clients[owner] = true
    end
    local fence = nextToken()
    for receiver in pairs(clients) do notify(receiver, 'reset', '*', fence) end
    call('ZREMRANGEBYSCORE', key, base.Q, '+inf')
    sem.used, sem.waiting, sem.capacity, sem.graceEnd = 0, 0, 0, 0
    sem.leaseDue, sem.giveUpDue = width, width
    sem.changed, sem.workLeft = true, false
    return format('reset %.0f', fence)
  end

  local function list(class, count)
    local found = lowest(class, width - 1, min(tonumber(count), 1000), 'WITHSCORES')
    local listed = {}
    for i = 1, #found, 2 do
      local id = found[i]:sub(2)
      local leaseEnd = tonumber(call('ZSCORE', key, 'L' .. id)) - base.L
      local value = tonumber(found[i + 1]) - base[class]
      listed[#listed + 1] = format('%s:%.0f:%.0f:%.0f', id, partsOf(id), value, leaseEnd - now)
    end
    return concat(listed, ';')
  end

  local function look(count)
    local numbers = format('look %.0f %.0f %.0f ', sem.capacity, sem.used, sem.waiting)
    return numbers .. list('H', count) .. ' ' .. list('Q', count)
  end

  return {
    revoke = revoke, recover = recover, resize = resize, reset = reset, look = look, dropOverdue = dropOverdue,
    firstOf = firstOf
  }
end

local rest
local function the(operation)
  rest = rest or makeRest()
  return rest[operation]
end

-- The call --------------------------------------------------------------------------------------------------------

if now >= sem.leaseDue then sem.leaseDue = the('dropOverdue')('L') end
if now >= sem.giveUpDue then sem.giveUpDue = the('dropOverdue')('G') end

local results = {}
at = firstOperation
while at <= #ARGV do
  local operation = ARGV[at]
  -- Releases that come together free their permits together. Everything else finds the queue served.
  if sem.headMayFit and operation ~= 'release' then serveQueue() end
  local id, duration, third = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local result
  if operation == 'release' then result = remove(id)
  elseif operation == 'acquire' then result = renew(id, duration) or acquire(id, duration, third, tonumber(ARGV[at + 4]))
  elseif operation == 'keep' then result = renew(id, duration) or the('recover')(id, duration, third)
  else result = the(operation)(id) end
  results[#results + 1] = result
  at = at + 1 + arguments[operation]
end
if sem.headMayFit then serveQueue() end

local chance = -1
if sem.waiting > 0 then
  if sem.leasesMoved then sem.leaseDue = the('firstOf')('L') end
  chance = sem.graceEnd > 0 and min(sem.leaseDue, sem.graceEnd) - now or sem.leaseDue - now
  if sem.workLeft then chance = 0 end
end

if sem.changed then
  local new = 'C' .. struct.pack(counters, sem.used, sem.waiting, sem.token, sem.capacity, now, lag, sem.graceEnd,
    sem.leaseDue, sem.giveUpDue, sem.workLeft and 1 or 0)
  if new ~= stored then
    -- In this order, for a key that vanished half-way could not be written again while its slot moves.
    call('ZADD', key, counterScore, new)
    if stored then call('ZREM', key, stored) end
  end

  -- Its life is renewed once a minute, or when a lease might outlive it: cheaper than in every call, here and for
  -- replicas.
  local minute, hour = 60e6, 3600e6
  local sameMinute = math.floor(now / minute) == math.floor(clock / minute)
  if not sameMinute or sem.longestLease >= hour / 2 then
    local lastLease = tonumber(call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]) - base.L
    call('PEXPIRE', key, math.ceil(max(hour, lastLease - now) / 1000))
  end
end

-- A server may forbid to publish; that must not undo what was granted.
local publish = ARGV[4]
for receiver, list in pairs(notices) do
  if publish ~= '' and receiver ~= client then redis.pcall(publish, key .. ':' .. receiver, concat(list, ',')) end
end

return format('%.0f %.0f\n%s\n%s', serverTime, chance, concat(notices[client], ','), concat(results, ','))
