-- Publish whether the arrays of scoreboards and crews are kept (STATSD_EXPORTS).
--
-- Where they were left out before, a reconcile is enqueued.
--
-- request: exports ('0' or '1'), only_if_absent (whether what is published already stays in force)
-- reply: before, now ('0' or '1'; before is nil where nothing was published)
--
-- include boards/arrays

next_token()
local before = redis.call('HGET', CLOCK, 'exports') or nil
local now = request.only_if_absent and before or request.exports
if now ~= before then redis.call('HSET', CLOCK, 'exports', now) end
if before == '0' and now == '1' then enqueue(AFTER_LOSS, INTERACTIVE) end
begin_names_log()
return reply({before = before, now = now})
