-- Complete jobs: write their values with the as-of, and remove them from the queue, in one step.
--
-- An answer is refused when its lease belongs to another worker or its epoch is over (fenced), and
-- when its token is too old (stale). It does not replace a value with a newer as-of. A job is
-- removed only when the token is newer than its last enqueue; otherwise it is due at once or after
-- its cooldown. A value that is unchanged is not written again; only its as-of moves.
--
-- Small values follow the request in ARGV. Large ones were written under keys of their own, which
-- are renamed: a script copies each of its strings several times.
--
-- request: token, epoch, lease
--          oldest   microseconds that a token may be old
--          next     a lease request, as `lease_due` takes it; nil: lease nothing
--          answers  array of answers, or pieces of them, with the fields for hooks.completed, and:
--            name
--            values        array of {key, place, token}. The place is an index in ARGV or, as text, the
--                          key that the value was written under. The token is of a value of its own.
--            partial       only write these values, or enqueue these jobs: more pieces will follow
--            has_values    whether there are values, in earlier pieces too
--            key_index     JSON array of the keys of the job
--            owner         the job that owns the values, if it is another one; its key index stays
--            oldest        as above, for this answer alone
--            jobs          as `enqueue_all` takes them; nil in pieces with values
--            acknowledged  ids of solves; nil with nil jobs
--            took          microseconds
--            cooldown      microseconds; nil: none
--            own_cooldown  the cooldown holds without values, too
--            changes_at    the moment from which another answer is right; nil: never
-- reply: outcomes: array, for each answer {status, waited (milliseconds since the publication of
--          the oldest event that it answers; nil: for no event), unchanged (how many of its
--          values)}; status is 'completed', 'requeued' (written, and enqueued again meanwhile),
--          'partial', 'stale' (refused, still leased) or 'fenced' (refused, no longer this worker's)
--        leased: the result of `lease_due`; nil where an answer was stale and is tried again
--
-- include jobs/leasing

local COMPARED = 65536 -- bytes

local newest = next_token()
local token = request.token
local function as_of_text(moment)
  return string.format('%d.%06d', math.floor(moment / 1000000), moment % 1000000)
end

-- An as-of ahead of the newest token is invalid: no such token was issued.
local function is_older(key, moment)
  local stored = tonumber(as_of(key))
  return not (stored and stored >= tonumber(as_of_text(moment)) and stored <= newest / 1000000)
end

local function is_same(key, value)
  return redis.pcall('STRLEN', key) == #value and redis.call('GET', key) == value
end

-- Large values are compared in parts: the copy of a whole one takes longer.
local function are_same(key, other)
  local size = redis.pcall('STRLEN', key)
  if size ~= redis.call('STRLEN', other) then return false end
  for first = 0, size - 1, COMPARED do
    local last = first + COMPARED - 1
    if redis.call('GETRANGE', key, first, last) ~= redis.call('GETRANGE', other, first, last) then
      return false
    end
  end
  return true
end

-- Redis may have evicted a large value that was written before.
local function is_complete(values)
  for _, each in ipairs(values) do
    if type(each[2]) == 'string' and redis.call('EXISTS', each[2]) == 0 then return false end
  end
  return true
end

local function write(owner, values)
  local unchanged, refused = 0, {}
  for _, each in ipairs(values) do
    local key, place, moment = each[1], each[2], each[3] or token
    local uploaded = type(place) == 'string'
    if hooks.leaves_out(key) then
      unchanged = unchanged + 1 -- made before the setting changed
    elseif is_older(key, moment) then
      if uploaded and not are_same(key, place) then
        redis.call('RENAME', place, key)
        redis.call('PERSIST', key)
      elseif uploaded or is_same(key, ARGV[place]) then
        unchanged = unchanged + 1
      else
        redis.call('SET', key, ARGV[place])
      end
      redis.call('SET', key .. AS_OF, as_of_text(moment))
      redis.call('HSET', KEY_OWNERS, key, owner)
    else
      refused[#refused + 1] = key
    end
    if uploaded then redis.call('UNLINK', place) end
  end
  if #refused > 0 then hooks.refused(owner, refused) end
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
      -- Also a newer value: another job wrote it for this one, before the key had to go.
      redis.call('DEL', key, key .. AS_OF)
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

-- Add keys that were written for another job to its index. A pass that was interrupted has left none.
local function add_to_key_index(owner, values)
  local index, missing = redis.call('HGET', KEY_INDEX, owner) or '[]', {}
  for _, each in ipairs(values) do
    local key = each[1]
    if not (hooks.leaves_out(key) or index:find('"' .. key .. '"', 1, true)) then
      missing[#missing + 1] = key
    end
  end
  if #missing == 0 then return end
  local all = cjson.decode(index)
  for _, key in ipairs(missing) do all[#all + 1] = key end
  redis.call('HSET', KEY_INDEX, owner, cjson.encode(all))
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
local function requeue(name, cooldown)
  redis.call('HDEL', JOB .. name, 'attempts', 'retry_at', 'error', 'since', 'entry', 'type')
  if token > tonumber(redis.call('HGET', JOB .. name, 'not_derived') or 0) then
    redis.call('HDEL', JOB .. name, 'not_derived')
  end
  merge_deferred(name)
  -- The page that waited for the job has its answer, so the job is as urgent as any export.
  if cooldown then set_class(name, EXPORT) end
  release_lease(name, cool_down(name, cooldown))
end

local function complete(answer)
  local name, owner = answer.name, answer.owner or answer.name
  if redis.call('HGET', LEASES, name) ~= request.lease or clock.epoch ~= request.epoch then
    return 'fenced', 0
  end
  if newest - token > (answer.oldest or request.oldest) or not is_complete(answer.values) then
    return 'stale', 0
  end
  local own = provenance
  local unchanged = 0
  if hooks.may_write(answer) then
    unchanged = write(owner, answer.values)
    if answer.owner then add_to_key_index(owner, answer.values) end
  end
  if answer.jobs then
    enqueue_all(answer.jobs)
    acknowledge_solves(answer.acknowledged)
  end
  if answer.partial then return 'partial', unchanged end
  if not answer.owner then
    local key_index = hooks.kept_keys(answer.key_index)
    update_key_index(name, redis.call('HGET', KEY_INDEX, name) or '[]', key_index)
  end
  hooks.completed(name, answer)
  set_next_change(name, answer.changes_at)
  local cooldown = answer.cooldown
  if answer.has_values then
    remember_run(owner, answer.took, own)
  elseif answer.key_index == '[]' and not answer.owner and not answer.own_cooldown then
    cooldown = nil
  end
  local class, enqueued = unpack(redis.call('HMGET', JOB .. name, 'class', 'enqueued'))
  if token > tonumber(enqueued or 0) then
    cool_down(name, cooldown)
    remove(name, class)
    return 'completed', unchanged
  end
  requeue(name, cooldown)
  return 'requeued', unchanged
end

local outcomes, is_stale = {}, false
for i, answer in ipairs(request.answers) do
  local name = answer.name
  local enqueued, deferred, since = unpack(redis.call('HMGET', JOB .. name,
    'enqueued', 'deferred_since', 'since'))
  if deferred and token > tonumber(enqueued or 0) then merge_deferred(name) end
  local own = (since or deferred) and provenance_of(name, '') or nil
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
