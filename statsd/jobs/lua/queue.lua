-- The queue: the keys of a pending job in Redis, and the functions that enqueue it.
--
-- A pending job has three parts:
--   its name in the sorted set of its class (DUE), by the time it is due
--   a hash (JOB .. name):
--     class, enqueued (token)
--     not_derived (token of the last enqueue that was not derived from another job's answer)
--     attempts, retry_at, error           of a job that failed
--     since (milliseconds), entry, type   provenance: the publication of the oldest event for
--                                         which the job is pending; id and type of the newest one
--     deferred_since, deferred_entry, deferred_type
--                                         the same, of events that came while the job was leased
--   its name in the hash LEASES, while it is leased
--
-- include jobs/clock

local DELAY_STEP = 500000 -- delayed jobs of one name within this time are one

-- A costly job is not due again during its cooldown. In a burst the same value is computed less
-- often, so that the daemon does not fall behind. Returns the duration.
local function cool_down(name, cooldown)
  if not cooldown then return 0 end
  redis.call('HSET', COOLDOWNS, name, digits(clock.now + cooldown))
  return cooldown
end

local function cooldown_end(name)
  local moment = tonumber(redis.call('HGET', COOLDOWNS, name) or 0)
  if moment > 0 and moment <= clock.now then redis.call('HDEL', COOLDOWNS, name) end
  return moment
end

local provenance -- the event for which jobs are enqueued now: since, entry, type; or nil
local merged = 0 -- how many of the jobs enqueued by this script were pending already

local function is_newer(entry, other)
  local time, number = entry:match('^(%d+)-(%d+)$')
  local other_time, other_number = (other or ''):match('^(%d+)-(%d+)$')
  if not (time and other_time) or time ~= other_time then
    return tonumber(time or 0) >= tonumber(other_time or 0)
  end
  return tonumber(number) >= tonumber(other_number)
end

-- `prefix` is '' or 'deferred_'.
local function add_provenance(name, event, prefix)
  local before = redis.call('HMGET', JOB .. name, prefix .. 'since', prefix .. 'entry')
  local fields = {prefix .. 'since', digits(math.min(tonumber(before[1] or LARGEST), event.since))}
  if is_newer(event.entry, before[2]) then
    fields = {fields[1], fields[2], prefix .. 'entry', event.entry, prefix .. 'type', event.type}
  end
  redis.call('HSET', JOB .. name, unpack(fields))
end

local function provenance_of(name, prefix)
  local since, entry, type = unpack(redis.call('HMGET', JOB .. name,
    prefix .. 'since', prefix .. 'entry', prefix .. 'type'))
  return since and entry and {since = tonumber(since), entry = entry, type = type or ''} or nil
end

-- The next answer also covers the events that came while the job was leased.
local function merge_deferred(name)
  local deferred = provenance_of(name, 'deferred_')
  if deferred then
    add_provenance(name, deferred, '')
    redis.call('HDEL', JOB .. name, 'deferred_since', 'deferred_entry', 'deferred_type')
  end
end

-- A job that is enqueued twice is pending once: with the newer token, the more urgent class, and
-- the earlier due time.
function enqueue(name, class, derived)
  clock.now = clock.now + 1 -- jobs that are enqueued together keep their order
  local was = redis.call('HMGET', JOB .. name, 'class', 'retry_at')
  if was[1] then merged = merged + 1 end
  local before = tonumber(was[1] or class)
  local due = tonumber(redis.call('ZSCORE', DUE .. before, name) or clock.now)
  local is_leased = redis.call('HEXISTS', LEASES, name) == 1
  -- A job of a cold start stays in its class, since exports wait for the end of the cold start.
  if before == BACKGROUND and class == EXPORT and not is_leased then class = BACKGROUND end
  if before > class then redis.call('ZREM', DUE .. before, name) end
  class = math.min(before, class)
  -- A leased job keeps the due time of its lease, and runs again after it. A failed job keeps its
  -- delay.
  if not is_leased then
    due = math.max(math.min(due, clock.now), tonumber(was[2] or 0))
    -- A job that a page waits for has no cooldown.
    if class > MISSED then due = math.max(due, cooldown_end(name)) end
  end
  local token = digits(clock.token)
  redis.call('HSET', JOB .. name, 'enqueued', token, 'class', class)
  if not derived then redis.call('HSET', JOB .. name, 'not_derived', token) end
  redis.call('ZADD', DUE .. class, digits(due), name)
  if provenance then add_provenance(name, provenance, is_leased and 'deferred_' or '') end
end

-- Enqueue after a delay, even if the same job is completed before.
local function enqueue_later(name, class, delay)
  local due = (math.floor((clock.now + delay) / DELAY_STEP) + 1) * DELAY_STEP
  redis.call('ZADD', DELAYED, digits(due), digits(due) .. '|' .. class .. '|' .. name)
end

-- jobs: array of {name, class, delay (microseconds), provenance ({since, entry, type} or nil)}
local function enqueue_all(jobs)
  local before = provenance
  for _, job in ipairs(jobs) do
    provenance = job.provenance or before
    if job.delay > 0 then
      enqueue_later(job.name, job.class, job.delay)
    else
      enqueue(job.name, job.class)
    end
  end
  provenance = before
end

-- Store the ids of solves whose jobs are enqueued, so that the search for missed solves skips them.
local function acknowledge_solves(ids)
  for first = 1, #ids, 1000 do
    local members = {}
    for i = first, math.min(first + 999, #ids) do
      members[#members + 1] = ids[i]
      members[#members + 1] = ids[i]
    end
    redis.call('ZADD', ACKNOWLEDGED_SOLVES, unpack(members))
  end
end

-- The caller sets the due time in the new class.
local function set_class(name, class)
  local before = redis.call('HGET', JOB .. name, 'class')
  if before then redis.call('ZREM', DUE .. before, name) end
  redis.call('HSET', JOB .. name, 'class', class)
end

local function release_lease(name, delay)
  redis.call('HDEL', LEASES, name)
  local class = redis.call('HGET', JOB .. name, 'class')
  if class then redis.call('ZADD', DUE .. class, digits(clock.now + delay), name) end
end

-- From every class: the hash with the class of the job may have been evicted.
local function remove(name)
  for class = MISSED, IDLE do redis.call('ZREM', DUE .. class, name) end
  redis.call('HDEL', LEASES, name)
  redis.call('DEL', JOB .. name)
end

local function bury(stream, limit, fields)
  redis.call('XADD', stream, 'MAXLEN', limit, '*', unpack(fields))
end

local request = cmsgpack.unpack(ARGV[1]) -- the one argument: a MessagePack map
local function reply(fields) return cmsgpack.pack(fields) end
