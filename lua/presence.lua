-- Whether the server can decide about limiters: it must run scripts, and let them write.
--
-- Guarantees
--   Changes nothing. A server that is a replica, out of memory, loading its data or otherwise not to be written to
--   refuses the command, as it would refuse those of a limiter.
--
-- KEYS  1  a key that nobody uses, in the slot of the limiters in question
-- Reply 1

redis.call('SET', KEYS[1], '', 'XX', 'PX', 1)
return 1
