-- Complete jobs: write their values with the as-of, and remove them from the queue, in one step.
--
-- An answer is refused when its lease belongs to another worker or its epoch is over (fenced), and
-- when its token is too old (stale). It does not replace a value with a newer as-of. A job is
-- removed only when the token is newer than its last enqueue; otherwise it is due at once or after
-- its cooldown. A value that is unchanged is not written again; only its as-of moves.
--
-- request: token, epoch, lease, oldest (microseconds that a token may be old)
--          answers: array of {name, key_index (JSON array of its keys), values (array of {key,
--            value}), jobs (as `enqueue_all` takes them), acknowledged (ids of solves), took
--            (microseconds), cooldown (microseconds; nil: none), changes_at (the moment from which
--            another answer is right; nil: never), and the fields for hooks.completed}
--          next (a lease request, as `lease_due` takes it; nil: lease nothing)
-- reply: outcomes: array, for each answer {status, waited (milliseconds since the publication of
--          the oldest event that it answers; nil: for no event), unchanged (how many of its
--          values)}; status is 'completed', 'requeued' (written, and enqueued again meanwhile),
--          'stale' (refused, still leased) or 'fenced' (refused, no longer this worker's)
--        leased: the result of `lease_due`; nil where an answer was stale and is tried again
--
-- include jobs/leasing

local newest = next_token()
local token = request.token
local own_as_of = string.format('%d.%06d', math.floor(token / 1000000), token % 1000000)

-- An as-of ahead of the newest token is invalid: no such token was issued.
local function is_older(key)
  local stored = tonumber(as_of(key))
  return not (stored and stored >= tonumber(own_as_of) and stored <= newest / 1000000)
end

local function is_same(key, value)
  return redis.pcall('STRLEN', key) == #value and redis.call('GET', key) == value
end

local function write(name, values)
  local unchanged = 0
  for _, pair in ipairs(values) do
    local key, value = pair[1], pair[2]
    if is_older(key) then
      if is_same(key, value) then
        unchanged = unchanged + 1
      else
        redis.call('SET', key, value)
      end
      redis.call('SET', key .. AS_OF, own_as_of)
      redis.call('HSET', KEY_OWNERS, key, name)
    end
  end
  return unchanged
end

-- Delete the keys that the job wrote before and no longer writes, unless another job (for a dojo
-- with the same reference id) has written them since.
local function update_key_index(name, before, now)
  if before == now then return end
  local still = {}
  for _, key in ipairs(cjson.decode(now)) do still[key] = true end
  for _, key in ipairs(cjson.decode(before)) do
    if not still[key] and redis.call('HGET', KEY_OWNERS, key) == name then
      if is_older(key) then redis.call('DEL', key, key .. AS_OF) end
      redis.call('HDEL', KEY_OWNERS, key)
    end
  end
  if now == '[]' then
    redis.call('HDEL', KEY_INDEX, name)
    redis.call('HDEL', LAST_RUNS, name)
  else
    redis.call('HSET', KEY_INDEX, name, now)
  end
end

-- There is one moment for each job, from its newest answer.
local function set_next_change(name, moment)
  if moment then
    redis.call('ZADD', CHANGES, digits(moment), name)
  else
    redis.call('ZREM', CHANGES, name)
  end
end

-- For operators: when the job was last answered, how long that took, and for which event.
local function remember_run(name, took, own)
  local _, _, event = (redis.call('HGET', LAST_RUNS, name) or ''):find('^%d+|%d+|(.*)$')
  if own then event = own.entry .. '|' .. own.type end
  redis.call('HSET', LAST_RUNS, name, digits(token) .. '|' .. digits(took) .. '|' .. (event or '|'))
end

-- The job was enqueued meanwhile: it is due again at once, or after its cooldown.
local function requeue(name, not_derived, cooldown)
  redis.call('HDEL', JOB .. name, 'attempts', 'retry_at', 'error', 'since', 'entry', 'type')
  if token > tonumber(not_derived or 0) then redis.call('HDEL', JOB .. name, 'not_derived') end
  merge_deferred(name)
  -- The page that waited for the job has its answer, so the job is as urgent as any export.
  if cooldown then set_class(name, EXPORT) end
  release_lease(name, cool_down(name, cooldown))
end

local function complete(answer)
  local name = answer.name
  if redis.call('HGET', LEASES, name) ~= request.lease or clock.epoch ~= request.epoch then
    return 'fenced', 0
  end
  if newest - token > request.oldest then return 'stale', 0 end
  local had = redis.call('HGET', KEY_INDEX, name) or '[]'
  local own = provenance
  local unchanged = write(name, answer.values)
  update_key_index(name, had, answer.key_index)
  enqueue_all(answer.jobs)
  acknowledge_solves(answer.acknowledged)
  hooks.completed(name, answer, had)
  set_next_change(name, answer.changes_at)
  local cooldown = answer.cooldown
  if answer.key_index == '[]' then cooldown = nil else remember_run(name, answer.took, own) end
  local enqueued, not_derived = unpack(redis.call('HMGET', JOB .. name, 'enqueued', 'not_derived'))
  if token > tonumber(enqueued or 0) then
    cool_down(name, cooldown)
    remove(name)
    return 'completed', unchanged
  end
  requeue(name, not_derived, cooldown)
  return 'requeued', unchanged
end

local outcomes, is_stale = {}, false
for i, answer in ipairs(request.answers) do
  local name = answer.name
  if token > tonumber(redis.call('HGET', JOB .. name, 'enqueued') or 0) then merge_deferred(name) end
  local own = provenance_of(name, '')
  provenance = own
  local status, unchanged = complete(answer)
  local is_answer = own and (status == 'completed' or status == 'requeued')
  local waited = is_answer and math.max(0, math.floor(clock.time / 1000) - own.since) or nil
  is_stale = is_stale or status == 'stale'
  outcomes[i] = {status = status, waited = waited, unchanged = unchanged}
end
provenance = nil
local leased = nil
if request.next and not is_stale then leased = lease_due(request.next) end
return reply({outcomes = outcomes, leased = leased})
