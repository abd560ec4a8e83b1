-- Create the consumer group and the stream where they are missing. Where events or jobs may be
-- lost, enqueue a reconcile in the same step. That is so if the group was missing, or if the server
-- was restarted, since it may have older data.
--
-- KEYS[1] the stream
-- request: group, run (the server's run id), before (the run id that this daemon knew; may be nil)
-- reply: 1 where a reconcile was enqueued, else 0
--
-- include jobs/queue

next_token()
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], request.group, '0', 'MKSTREAM')
if made.err and not made.err:find('^BUSYGROUP') then return made end
-- A clock without a run id is new, and its first use has enqueued a reconcile.
local known = redis.call('HGET', CLOCK, 'run') or request.before or request.run
redis.call('HSET', CLOCK, 'run', request.run)
if made.err and known == request.run then return 0 end
enqueue(AFTER_LOSS, INTERACTIVE)
return 1
