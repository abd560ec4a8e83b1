-- A job failed: it is due again after a delay. After the last attempt it becomes a dead letter.
--
-- KEYS[1] the dead letters
-- request: name, token, lease, delays (microseconds, one for each further attempt), unlimited (the
--          last delay is repeated, and the job is never buried), error (one line),
--          dead (field, value, ...), dead_limit
-- reply: attempts (so far; 0: another worker has the lease), delay (microseconds; nil: buried)
--
-- include jobs/hooks

next_token()
local name = request.name
if redis.call('HGET', LEASES, name) ~= request.lease then return reply({attempts = 0}) end
local attempts = redis.call('HINCRBY', JOB .. name, 'attempts', 1)
redis.call('HSET', JOB .. name, 'error', request.error)
local delay = request.delays[attempts] or (request.unlimited and request.delays[#request.delays])
if delay then
  redis.call('HSET', JOB .. name, 'retry_at', digits(clock.now + delay))
  release_lease(name, delay)
  return reply({attempts = attempts, delay = delay})
end
local fields = request.dead
fields[#fields + 1] = 'attempts'
fields[#fields + 1] = attempts
bury(KEYS[1], request.dead_limit, fields)
hooks.buried(name)
local class, enqueued = unpack(redis.call('HMGET', JOB .. name, 'class', 'enqueued'))
if request.token > tonumber(enqueued or 0) then
  remove(name, class)
else
  -- It was enqueued again since it was leased, so it starts again with no attempts.
  redis.call('HDEL', JOB .. name, 'error', 'since', 'entry', 'type')
  local pause = request.delays[#request.delays] or 0
  redis.call('HSET', JOB .. name, 'attempts', 0, 'retry_at', digits(clock.now + pause))
  release_lease(name, pause)
end
return reply({attempts = attempts})
