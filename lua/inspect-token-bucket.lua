-- Token buckets: what is remembered of one, for whoever looks into it.
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
