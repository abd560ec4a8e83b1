-- Make the group, with the stream, where it is not there; owe everything in the same step where
-- events or marks may be lost: the group was not there, or the data was last seen on another run
-- of a server, which may have come back with older data.
--
-- KEYS[1] the stream
-- request: group, run (the server's run id), before (the one this daemon knew; may be absent)
-- reply: 1 where everything is owed, else 0

tick()
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], request.group, '0', 'MKSTREAM')
if made.err and not made.err:find('^BUSYGROUP') then return made end
-- A clock that knows no run was made anew, and everything was owed then.
local known = redis.call('HGET', CLOCK, 'run') or request.before or request.run
redis.call('HSET', CLOCK, 'run', request.run)
if made.err and known == request.run then return 0 end
owe('reconcile', INTERACTIVE)
return 1
