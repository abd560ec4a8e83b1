-- The queue: the keys of a pending job in Redis, and the functions that enqueue it.
--
-- A pending job has three parts:
--   its name in the sorted set of its class (DUE), by the time it is due
--   a hash (JOB .. name):
--     class, enqueued (token)
--     not_derived (token of the last enqueue that was not derived from another job's answer)
--     changed (the ids of the challenges whose solves have changed, each between commas; absent:
--             anything may have changed)
--     attempts, retry_at, error           of a job that failed
--     since (milliseconds), entry, type   provenance: the publication of the oldest event for
--                                         which the job is pending; id and type of the newest one
--     deferred_since, deferred_entry, deferred_type
--                                         the same, of events that came while the job was leased
--   its name in the hash LEASES, while it is leased
--
-- include jobs/clock

local DELAY_STEP = 500000 -- delayed jobs of one name within this time are one
local LONGEST_CHANGED = 200 -- characters of `changed`

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

-- Append the fields of an event's provenance to the fields of a pending job. `prefix` is '' or
-- 'deferred_'.
local function add_provenance(fields, name, event, prefix, is_new)
  local before = is_new and {}
    or redis.call('HMGET', JOB .. name, prefix .. 'since', prefix .. 'entry')
  local at = #fields
  fields[at + 1] = prefix .. 'since'
  fields[at + 2] = digits(math.min(tonumber(before[1] or LARGEST), event.since))
  if is_newer(event.entry, before[2]) then
    fields[at + 3], fields[at + 4] = prefix .. 'entry', event.entry
    fields[at + 5], fields[at + 6] = prefix .. 'type', event.type
  end
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
    local fields = {}
    add_provenance(fields, name, deferred, '')
    redis.call('HSET', JOB .. name, unpack(fields))
    redis.call('HDEL', JOB .. name, 'deferred_since', 'deferred_entry', 'deferred_type')
  end
end

-- Remove a job. Its class is nil where its hash was evicted: then it may be in any.
local function remove(name, class)
  for each = class or MISSED, class or IDLE do redis.call('ZREM', DUE .. each, name) end
  redis.call('HDEL', LEASES, name)
  redis.call('DEL', JOB .. name)
end

-- What has changed for a job that is enqueued again: nil for anything.
local function all_changed(is_new, before, changed)
  if not changed or not (is_new or before) then return nil end
  local ids = (before or ',') .. changed .. ','
  return #ids <= LONGEST_CHANGED and ids or nil
end

-- A job that is enqueued twice is pending once: with the newer token, the more urgent class, and
-- the earlier due time. `changed` is the id of a challenge, if nothing but its solves has changed.
function enqueue(name, class, derived, changed)
  clock.now = clock.now + 1 -- jobs that are enqueued together keep their order
  local was = redis.call('HMGET', JOB .. name, 'class', 'retry_at', 'changed')
  local is_new, before = not was[1], tonumber(was[1] or class)
  local due, is_leased = clock.now, redis.call('HEXISTS', LEASES, name) == 1
  if is_new and is_leased then -- its hash was evicted: the answer to come is refused
    remove(name)
    is_leased, changed = false, nil
  elseif not is_new then
    merged = merged + 1
    due = tonumber(redis.call('ZSCORE', DUE .. before, name) or due)
    -- A job of a cold start stays in its class, since exports wait for the end of the cold start.
    if before == BACKGROUND and class == EXPORT and not is_leased then class = BACKGROUND end
    if before > class then redis.call('ZREM', DUE .. before, name) end
    class = math.min(before, class)
  end
  -- A leased job keeps the due time of its lease, and runs again after it. A failed job keeps its
  -- delay. A job that a page waits for has no cooldown.
  if not is_leased then
    local rest = class > MISSED and cooldown_end(name) or 0
    due = math.max(math.min(due, clock.now), tonumber(was[2] or 0), rest)
  end
  local token = digits(clock.token)
  local fields = {'enqueued', token, 'class', class}
  if not derived then fields[5], fields[6] = 'not_derived', token end
  if provenance then
    add_provenance(fields, name, provenance, is_leased and 'deferred_' or '', is_new)
  end
  local ids = all_changed(is_new, was[3], changed)
  if ids then fields[#fields + 1], fields[#fields + 2] = 'changed', ids end
  redis.call('HSET', JOB .. name, unpack(fields))
  local was_due = redis.call('ZADD', DUE .. class, digits(due), name) == 0
  -- A name without a hash: what it was pending for was evicted.
  if (was[3] and not ids) or (ids and is_new and was_due) then redis.call('HDEL', JOB .. name, 'changed') end
end

-- Enqueue after a delay, even if the same job is completed before.
local function enqueue_later(name, class, delay)
  local due = (math.floor((clock.now + delay) / DELAY_STEP) + 1) * DELAY_STEP
  redis.call('ZADD', DELAYED, digits(due), digits(due) .. '|' .. class .. '|' .. name)
end

-- jobs: array of {name, class, delay (microseconds), provenance ({since, entry, type} or nil), changed
--       (as `enqueue` takes it; a delayed job has none)}
local function enqueue_all(jobs)
  local before = provenance
  for _, job in ipairs(jobs) do
    provenance = job.provenance or before
    if job.delay > 0 then
      enqueue_later(job.name, job.class, job.delay)
    else
      enqueue(job.name, job.class, false, job.changed)
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
  if not class then -- its hash was evicted
    for each = MISSED, IDLE do redis.call('ZREM', DUE .. each, name) end
    class = ORDINARY
    redis.call('HSET', JOB .. name, 'class', class, 'enqueued', digits(clock.token))
  end
  redis.call('ZADD', DUE .. class, digits(clock.now + delay), name)
end

local function bury(stream, limit, fields)
  redis.call('XADD', stream, 'MAXLEN', limit, '*', unpack(fields))
end

local request = cmsgpack.unpack(ARGV[1]) -- the one argument: a MessagePack map
local function reply(fields) return cmsgpack.pack(fields) end
