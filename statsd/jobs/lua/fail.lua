-- A refresh failed: due again after a delay, or, after the last attempt, to the dead letters.
--
-- KEYS[1] the dead letters
-- request: token, lease, name, delays (microseconds, one for each further attempt), patient (the
--          last delay again and again, and no burial), error (in a line), dead (field, value, ...),
--          dead_limit
-- reply: attempts so far, the delay (-1: buried); attempts 0: the lease is another's

-- What cannot be computed leaves boards that are wrong: they go, or other ways are taken to what
-- would have followed.
local function owe_for_the_dead(name)
  local kind, dojo = name:match('^([^:]+):([^:]+)')
  if kind == 'scoreboard' then
    redis.call('UNLINK', BOARDS .. dojo)
    owe('crews:' .. dojo, EXPORT)
  elseif kind == 'standing' then
    owe('scoreboard:' .. dojo, EXPORT)
    owe('dojo_stats:' .. dojo, INTERACTIVE)
  end
end

tick()
local name = request.name
if redis.call('HGET', LEASES, name) ~= request.lease then return {0, '0'} end
local attempts = redis.call('HINCRBY', MARK .. name, 'attempts', 1)
redis.call('HSET', MARK .. name, 'error', request.error)
local delay = request.delays[attempts] or (request.patient and request.delays[#request.delays])
if delay then
  redis.call('HSET', MARK .. name, 'retry_at', digits(clock.now + delay))
  give_back(name, delay)
  return {attempts, digits(delay)}
end
local fields = request.dead
fields[#fields + 1] = 'attempts'
fields[#fields + 1] = attempts
bury(KEYS[1], request.dead_limit, fields)
owe_for_the_dead(name)
if tonumber(request.token) > tonumber(redis.call('HGET', MARK .. name, 'marked') or 0) then
  forget(name)
else
  -- Marked again since it was taken: a new debt, with attempts of its own.
  redis.call('HDEL', MARK .. name, 'error', 'since', 'entry', 'type')
  local rest = request.delays[#request.delays] or 0
  redis.call('HSET', MARK .. name, 'attempts', 0, 'retry_at', digits(clock.now + rest))
  give_back(name, rest)
end
return {attempts, '-1'}
