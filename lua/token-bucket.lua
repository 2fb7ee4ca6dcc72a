-- Token buckets: decide about requests for tokens, in order, each at once and for good.
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
--         s            the state, as packed below, and behind it the rules as text
--         c<client>    what the client was last told: the call's number and its reply but for the time
-- ARGV  1 now          microseconds since 1970; 0: ask the server's clock
--       2 client       '' if nothing needs to be remembered
--       3 call         the client's number for this call; a repeated call has the same
--       4 notAfter     decide nothing after this time, for nobody waits for the answer any more; 0: no limit
--       then for each bucket
--         the caller's rules: 'capacity amount interval origin initial expiry'; '' if they are those of the bucket before
--         its operations, as one text with spaces in between; '' if they are those of the bucket before:
--           reserve amount maxWait times    (equal requests in a row)
--           giveBack amount | reserved serial beforeSerial beforeGap taken level ahead    (a reservation as the reply gave
--             it; ahead is -1, and level 0, unless it ran later than its bucket alone would have had it)
--           charge amount
--           pause duration
--           look amount
--           reset
--       then, to be decided after all of these, requests to several buckets at once, each of them:
--         minWait maxWait times buckets, and for each bucket: its place in KEYS, amount, and 1 if the request may wait
--           because of this one and not only because of others, or else 0
-- Reply: numbers, packed as doubles
--       1 now
--       2 decided      the time when this was decided, which is earlier if the call is repeated: of the waits so much has
--                      passed; 0 and no more if it was too late and nothing was decided
--       then for each bucket
--         0, 1 if it was remembered with other rules than the caller's, or 2, the length of the error that its key
--         answered with, and that error instead of answers
--         and for each operation
--           reserve   times code value serial beforeSerial beforeGap taken, as often as it needs for all of them: so many
--                     in a row are answered alike, but that each has the next serial and has taken as much again
--                     code 0: value is the wait, 1: it would be this, too long, 2: a quota has only this left
--           giveBack  what was returned
--           look      available wait nextToken (a wait of -1: none would help)
--       then for each request to several buckets
--         times code value bucket, as often as it needs for all of them, alike as above
--         code 0: value is the wait, 1: it would be this, too long, 2: a quota has only this left, 3: a key answered with an
--         error; bucket is the place, in the request, of the one that refuses
--         and if the code is 0, for each bucket: serial beforeSerial beforeGap taken level ahead

local tonumber, fmod, floor, max, min = tonumber, math.fmod, math.floor, math.max, math.min
local pack = struct.pack

local maxSpan = 40 * 365 * 86400000000
local unitsPerToken = 1000000
local maxAmount = 4000000000 * unitsPerToken
local maxCount = 2 ^ 53 - 1
-- For how long a client is remembered, and from how many on the forgotten ones are looked for. A bucket lives so much
-- longer than needed, lest every call would have to set its lifetime.
local clientSpan, manyClients = 60000000, 32
local numbers, packedLength = '<dddddddddddddddddd', 144
local layout = numbers .. 'c0'

local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local client, call, notAfter = ARGV[2], ARGV[3], tonumber(ARGV[4])

-- The decision ---------------------------------------------------------------------------------------------------

local function floorDivide(a, b) return (a - fmod(a, b)) / b end

local function ceilDivide(a, b)
  if fmod(a, b) == 0 then return a / b end
  return floorDivide(a, b) + 1
end

local function forgottenAt(state, rules)
  local idle = max(state.at, state.tail)
  if state.amount > 0 and state.level < state.capacity then
    idle = max(idle, state.slot + ceilDivide(state.capacity - state.level, state.amount) * state.interval)
  end
  return idle + rules.expiry
end

local function advance(state, time)
  state.at = time
  if state.amount == 0 or time < state.slot + state.interval then return end
  local refills = floorDivide(time - state.slot, state.interval)
  local missing = state.capacity - state.level
  if refills >= ceilDivide(missing, state.amount) then state.level = state.capacity
  else state.level = state.level + refills * state.amount end
  state.slot = state.slot + refills * state.interval
end

local function affordableAt(state, amount)
  local missing = amount - state.level
  if missing <= 0 then return now end
  if state.amount == 0 or missing > maxAmount then return nil end
  local refills = ceilDivide(missing, state.amount)
  if refills > floorDivide(maxSpan, state.interval) then return nil end
  return state.slot + refills * state.interval
end

local function count(state, amount, serial)
  if state.taken + amount <= maxCount then state.taken = state.taken + amount
  else state.taken, state.born = amount, serial end
end

local function runsAt(state, amount)
  local affordable = affordableAt(state, amount)
  if affordable and state.tail > now then return max(state.tail, affordable) end
  return affordable
end

-- So many requests alike that run at once, or one.
local function take(state, amount, runs, alike)
  local serial = max(state.serial + 1, now)
  count(state, amount, serial)
  local taken = state.taken
  state.taken = taken + (alike - 1) * amount
  state.level = state.level - alike * amount
  state.serial = serial + alike - 1
  if state.tail <= now then state.surplus, state.held, state.since = 0, 0, state.serial end
  if runs > now then
    state.tail, state.tailSerial = runs, serial
    state.held = max(state.held, amount)
  end
  return serial, taken
end

-- Decides about as many of these requests as are answered alike: those that don't wait, and those that are refused. Gives
-- how many, and 0 wait, 1 wait (too long) or 2 available (empty); changes the state only in the first case.
local function reserve(state, amount, maxWait, times)
  local runs = runsAt(state, amount)
  if not runs then
    if state.amount == 0 then return times, 2, max(0, state.level), 0, 0, 0, 0 end
    return times, 1, maxSpan, 0, 0, 0, 0
  end
  local wait = runs - now
  if wait > maxWait then return times, 1, wait, 0, 0, 0, 0 end
  local beforeSerial, beforeGap = state.tailSerial, runs - state.tail
  local alike = 1
  if wait == 0 and times > 1 then alike = min(times, floorDivide(state.level, amount)) end
  if state.taken + alike * amount > maxCount then alike = 1 end
  local serial, taken = take(state, amount, runs, alike)
  return alike, 0, wait, serial, beforeSerial, beforeGap, taken
end

-- What most calls don't need is made for those that do: each function costs a call a quarter of a microsecond.
local function makeRest()
  local function gridFloor(time, origin, interval)
    local past = fmod(time - origin, interval)
    if past < 0 then return time - past - interval end
    return time - past
  end

  local function firstSlot(rules, time)
    if rules.amount > 0 and rules.origin >= 0 then return gridFloor(time, rules.origin, rules.interval) end
    return time
  end

  local function fresh(rules)
    return {
      level = rules.initial, slot = firstSlot(rules, now), at = now, tail = now, tailSerial = 0, serial = now, born = now,
      surplus = 0, held = 0, since = now, taken = 0,
      capacity = rules.capacity, amount = rules.amount, interval = rules.interval, origin = rules.origin
    }
  end

  local function setBack(state)
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
    local begins = max(now, state.tail, state.slot)
    local busy = state.tail > now
    advance(state, begins)
    local slot = firstSlot(rules, begins)
    local carried = 0
    if rules.amount > 0 and rules.origin >= 0 then
      local til = begins
      if state.origin >= 0 then til = max(slot, state.slot) end
      carried = floor(broughtBy(state, state.slot, til) - broughtBy(rules, slot, til))
    elseif rules.amount > 0 then
      local value = broughtBy(state, state.slot, begins)
      carried = floorDivide(value, rules.amount) * rules.amount
      slot = slot - min(rules.interval - 1, floor(((value - carried) * rules.interval) / rules.amount))
    end
    state.level = min(rules.capacity, max(-maxAmount, min(state.level, rules.capacity) + carried))
    state.slot, state.at = slot, now
    if busy then state.tailSerial = 0 end
    if state.amount > 0 and rules.amount == 0 then state.born = state.serial + 1 end
    state.capacity, state.amount, state.interval, state.origin =
      rules.capacity, rules.amount, rules.interval, rules.origin
  end

  local function holdOff(state, ends)
    local busy = state.tail > now
    advance(state, ends)
    state.held = max(0, state.level, busy and state.held + state.surplus or 0)
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
      if not runs and state.amount == 0 then return times, 2, max(0, state.level), part end
      local own = runs and runs - now or math.huge
      if mayWait[part] == 1 then mostPatience = max(mostPatience, own) end
      if own > wait then wait, slowest = own, part end
    end
    if wait > maxWait or wait > mostPatience then return times, 1, min(wait, maxSpan), slowest end
    local alike = wait == 0 and times or 1
    for part = 1, alike > 1 and #states or 0 do
      local state, amount = states[part], amounts[part]
      alike = min(alike, floorDivide(state.level, amount))
      if state.taken + alike * amount > maxCount then alike = 1 end
    end
    return alike, 0, wait, 0
  end

  local function asBefore(state, reserved, taken, level, ahead)
    local charged = state.taken - taken
    local slot, holds = state.slot, state.level
    state.level, state.slot = level, slot - ahead
    advance(state, slot)
    local returned = holds + reserved + charged - state.level
    state.level, state.slot = min(state.capacity, level + returned), slot - ahead
    advance(state, now)
    state.level = state.level - charged
  end

  local function giveBack(state, amount, reserved, serial, beforeSerial, beforeGap, taken, level, ahead)
    if serial < state.born then return 0 end
    local busy = state.tail > now
    if busy and serial == state.tailSerial and amount == reserved then
      if ahead < 0 then state.level = min(state.capacity, state.level + amount)
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
    local returned = max(0, min(amount, ahead, behind))
    state.level = state.level + returned
    if takenSince == 0 then state.taken = state.taken - returned end
    if busy then state.surplus = state.surplus + returned end
    return returned
  end

  local function charge(state, amount)
    count(state, amount, state.serial + 1)
    state.level = max(-maxAmount, state.level - amount)
  end

  local function pause(state, duration)
    local ends = now + duration
    if ends <= max(now, state.tail) then state.tailSerial = 0 else holdOff(state, ends) end
  end

  local function reset(state, rules)
    local serial = max(state.serial, now)
    local new = fresh(rules)
    new.serial, new.born = serial, serial + 1
    return new
  end

  local function waitFor(state, amount)
    local runs = runsAt(state, amount)
    if not runs or runs - now > maxSpan then return -1 end
    return runs - now
  end

  local function look(state, amount)
    local available, wait, nextToken = 0, 0, -1
    if state.tail <= now then available = max(0, state.level) end
    local more = (floorDivide(available, unitsPerToken) + 1) * unitsPerToken
    if amount > 0 then wait = waitFor(state, amount) end
    if more <= state.capacity then nextToken = waitFor(state, more) end
    return available, wait, nextToken
  end

  local function parseRules(text)
    local rules = {}
    rules.capacity, rules.amount, rules.interval, rules.origin, rules.initial, rules.expiry =
      string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
    for name, value in pairs(rules) do rules[name] = tonumber(value) end
    return rules
  end

  -- What clients were told begins, behind the number of the call, with the time.
  local function forgetOldClients(key)
    if redis.call('HLEN', key) < manyClients then return end
    local fields = redis.call('HGETALL', key)
    for i = 1, #fields, 2 do
      local before = fields[i] ~= 's' and string.find(fields[i + 1], ' ', 1, true)
      if before and struct.unpack('<d', fields[i + 1], before + 1) < now - clientSpan then
        redis.call('HDEL', key, fields[i])
      end
    end
  end

  return {
    fresh = fresh, setBack = setBack, adopt = adopt, giveBack = giveBack, charge = charge, pause = pause, look = look,
    reset = reset, waitTogether = waitTogether, reserveAt = reserveAt, parseRules = parseRules,
    forgetOldClients = forgetOldClients
  }
end

local rest
local function the(name)
  rest = rest or makeRest()
  return rest[name]
end

-- Gives the state, whether it was remembered with other rules, and whether time counts from here, so that it has to be
-- remembered whatever comes of the request.
local function load(remembered, rules)
  if not remembered or now >= forgottenAt(remembered, rules) then
    return the('fresh')(rules), 0, rules.initial < rules.capacity
  end
  local state = remembered
  local starts = now < state.at
  if starts then the('setBack')(state) end
  advance(state, now)
  if state.capacity == rules.capacity and state.amount == rules.amount and state.interval == rules.interval
    and state.origin == rules.origin then return state, 0, starts end
  the('adopt')(state, rules)
  return state, 1, starts
end

-- What is remembered ---------------------------------------------------------------------------------------------

-- The state, the rules that it was remembered with, and when its key expires.
local function unpackState(packed)
  local level, slot, at, tail, tailSerial, serial, born, surplus, held, since, taken, capacity, amount, interval, origin,
    initial, expiry, expires = struct.unpack(numbers, packed)
  return {
    level = level, slot = slot, at = at, tail = tail, tailSerial = tailSerial, serial = serial, born = born,
    surplus = surplus, held = held, since = since, taken = taken, capacity = capacity, amount = amount,
    interval = interval, origin = origin, initial = initial, expiry = expiry, expires = expires,
    text = string.sub(packed, packedLength + 1)
  }
end

local function packState(state, rules, text, expires)
  return pack(layout, state.level, state.slot, state.at, state.tail, state.tailSerial, state.serial, state.born,
    state.surplus, state.held, state.since, state.taken, state.capacity, state.amount, state.interval, state.origin,
    rules.initial, rules.expiry, expires, text)
end

local function wordsOf(text)
  local words = {}
  for word in string.gmatch(text, '%S+') do words[#words + 1] = tonumber(word) or word end
  return words
end

-- The call -------------------------------------------------------------------------------------------------------

local field, prefix = 'c' .. client, call .. ' '
local found = {}
local home, isKnown
for i = 1, #KEYS do
  if home then found[i] = redis.pcall('HGET', KEYS[i], 's')
  else
    local fields = redis.pcall('HMGET', KEYS[i], 's', field)
    if fields.err then found[i] = fields
    else
      local told = fields[2]
      if told and string.sub(told, 1, #prefix) == prefix then
        return pack('<d', now) .. string.sub(told, #prefix + 1)
      end
      found[i], home, isKnown = fields[1], i, told
    end
  end
end
if notAfter > 0 and now > notAfter then return pack('<dd', now, 0) end

local answers = { pack('<d', now) }
local buckets, argument = {}, 5
local text, parsed, words
for i = 1, #KEYS do
  local found = found[i]
  if ARGV[argument] ~= '' then text, parsed = ARGV[argument], nil end
  if ARGV[argument + 1] ~= '' then words = wordsOf(ARGV[argument + 1]) end
  argument = argument + 2
  if found and found.err then
    answers[#answers + 1] = pack('<dd', 2, #found.err) .. found.err
    buckets[i] = { failed = true }
  else
    local remembered = found and unpackState(found) or nil
    local rules = remembered
    if not remembered or remembered.text ~= text then
      parsed = parsed or the('parseRules')(text)
      rules = parsed
    end
    local expires = remembered and remembered.expires or 0
    local state, disagreed, starts = load(remembered, rules)
    answers[#answers + 1] = pack('<d', disagreed)
    local changed = false
    local at = 1
    while words[at] do
      local operation, a, b, c = words[at], words[at + 1], words[at + 2], words[at + 3]
      if operation == 'reserve' then
        repeat
          local alike, code, value, serial, beforeSerial, beforeGap, taken = reserve(state, a, b, c)
          answers[#answers + 1] = pack('<ddddddd', alike, code, value, serial, beforeSerial, beforeGap, taken)
          c = c - alike
          -- A refusal changes nothing, except that a quota lives on while anyone asks for it.
          if code ~= 1 or starts then changed = true end
        until c == 0
        at = at + 4
      elseif operation == 'giveBack' then
        local returned = the('giveBack')(state, unpack(words, at + 1, at + 8))
        answers[#answers + 1] = pack('<d', returned)
        if returned > 0 then changed = true end
        at = at + 9
      elseif operation == 'charge' then
        the('charge')(state, a)
        changed = true
        at = at + 2
      elseif operation == 'pause' then
        the('pause')(state, a)
        changed = true
        at = at + 2
      elseif operation == 'look' then
        answers[#answers + 1] = pack('<ddd', the('look')(state, a))
        at = at + 2
      else
        state = the('reset')(state, rules)
        changed = true
        at = at + 1
      end
    end
    buckets[i] =
      { state = state, rules = rules, text = text, expires = expires, starts = starts, changed = changed }
  end
end

while ARGV[argument] do
  local minWait, maxWait = tonumber(ARGV[argument]), tonumber(ARGV[argument + 1])
  local times, size = tonumber(ARGV[argument + 2]), tonumber(ARGV[argument + 3])
  argument = argument + 4
  local parts, states, amounts, mayWait, failed = {}, {}, {}, {}, nil
  for part = 1, size do
    parts[part], amounts[part] = buckets[tonumber(ARGV[argument])], tonumber(ARGV[argument + 1])
    states[part], mayWait[part] = parts[part].state, tonumber(ARGV[argument + 2])
    if parts[part].failed then failed = failed or part end
    argument = argument + 3
  end
  repeat
    local alike, code, value, refusing = times, 3, 0, failed
    if not failed then
      alike, code, value, refusing = the('waitTogether')(states, amounts, mayWait, minWait, maxWait, times)
    end
    answers[#answers + 1] = pack('<dddd', alike, code, value, refusing)
    for part = 1, failed and 0 or size do
      local bucket = parts[part]
      if code == 0 then
        answers[#answers + 1] = pack('<dddddd', the('reserveAt')(bucket.state, amounts[part], now + value, alike))
      end
      if code == 0 or bucket.starts or bucket.state.amount == 0 then bucket.changed = true end
    end
    times = times - alike
  until times == 0
end

local saves = {}
for i = 1, #KEYS do
  local bucket = buckets[i]
  if bucket.changed then
    local needed = forgottenAt(bucket.state, bucket.rules)
    if i == home then needed = max(needed, now + clientSpan) end
    bucket.lives = needed > bucket.expires and needed + clientSpan
    bucket.packed = packState(bucket.state, bucket.rules, bucket.text, bucket.lives or bucket.expires)
    saves[#saves + 1] = i
  end
end

-- Nothing is written before everything is decided.
local told = table.concat(answers)
local memory = {}
if client ~= '' and #saves > 0 then
  memory = { field, prefix .. told }
  if not isKnown then the('forgetOldClients')(KEYS[home]) end
  if saves[1] ~= home then
    redis.call('HSET', KEYS[home], unpack(memory))
    if buckets[home].expires < now + clientSpan then
      redis.call('PEXPIREAT', KEYS[home], ceilDivide(now + 2 * clientSpan, 1000))
    end
  end
end
for i = 1, #saves do
  local index = saves[i]
  local key, bucket = KEYS[index], buckets[index]
  if index == home then redis.call('HSET', key, 's', bucket.packed, unpack(memory))
  else redis.call('HSET', key, 's', bucket.packed) end
  if bucket.lives then redis.call('PEXPIREAT', key, ceilDivide(bucket.lives, 1000)) end
end
return pack('<d', now) .. told
