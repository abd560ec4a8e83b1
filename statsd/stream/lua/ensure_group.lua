-- Make the consumer group, with the stream, where it is missing. Enqueue a reconcile in the same
-- step where events or jobs may be lost: the group was missing, or the data was last seen on
-- another run of a server, which may have come back with older data.
--
-- KEYS[1] the stream
-- request: group, run (the server's run id), before (the run id that this daemon knew; may be nil)
-- reply: 1 where a reconcile was enqueued, else 0
--
-- include jobs/queue

next_token()
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], request.group, '0', 'MKSTREAM')
if made.err and not made.err:find('^BUSYGROUP') then return made end
-- A clock that knows no run was made anew, and a reconcile was enqueued then.
local known = redis.call('HGET', CLOCK, 'run') or request.before or request.run
redis.call('HSET', CLOCK, 'run', request.run)
if made.err and known == request.run then return 0 end
enqueue(AFTER_LOSS, INTERACTIVE)
return 1
