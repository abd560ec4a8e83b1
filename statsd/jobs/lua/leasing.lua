-- Lease jobs: the oldest job of the class whose turn it is, and more jobs of its kind.
--
-- include jobs/hooks

local PAGE = 1000 -- due jobs of a class that are considered
local STEP = 200 -- jobs enqueued at once, because they were delayed or their answers changed

-- Priority aging, in microseconds: a job that has been due for this long comes before newer jobs
-- of more urgent classes, so that no class starves.
local PRIORITY_AGING = {[MISSED] = -LARGEST, [INTERACTIVE] = 0, [ORDINARY] = 1000000,
  [EXPORT] = 10000000, [BACKGROUND] = 60000000, [IDLE] = 300000000}

-- Enqueue the delayed jobs that are due, and the jobs whose answers changed by themselves. Returns
-- whether there are more of them.
local function enqueue_by_time()
  local delayed = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', digits(clock.now), 'LIMIT', 0, STEP)
  for _, entry in ipairs(delayed) do
    local class, name = entry:match('^%d+|(%d+)|(.*)$')
    enqueue(name, tonumber(class))
    redis.call('ZREM', DELAYED, entry)
  end
  local changes = redis.call('ZRANGEBYSCORE', CHANGES, '-inf', digits(clock.token), 'LIMIT', 0, STEP)
  for _, name in ipairs(changes) do
    enqueue(name, ORDINARY, true)
    redis.call('ZREM', CHANGES, name)
  end
  return hooks.time_passed() or #delayed == STEP or #changes == STEP
end

-- The newest due time of a class that is leased now.
local function latest_of(class, wanted)
  return clock.now - (class == EXPORT and wanted.debounce or 0)
end

-- The classes in which a job is due, in the order in which they get their turn.
local function turns(wanted)
  local found = {}
  for class = MISSED, wanted.least do
    local oldest = tonumber(redis.call('ZRANGE', DUE .. class, 0, 0, 'WITHSCORES')[2])
    if oldest and oldest <= latest_of(class, wanted) then
      local order = wanted.strict and class or oldest + PRIORITY_AGING[class]
      found[#found + 1] = {class = class, order = order}
    end
  end
  table.sort(found, function(one, other)
    if one.order == other.order then return one.class < other.class end
    return one.order < other.order
  end)
  return found
end

-- Choose jobs of a class. Returns their names, the oldest due time among them, and whether more
-- jobs are due.
local function choose(class, wanted)
  local latest, names, kind, oldest, more = digits(latest_of(class, wanted)), {}, nil, clock.now, false
  local function consider(name, due)
    local its_kind = name:match('^[^:]+')
    local limit = wanted.batches[its_kind]
    if not limit or (class > MISSED and wanted.shed[its_kind]) then return end
    kind = kind or its_kind
    if its_kind == kind and #names < limit then
      names[#names + 1] = name
      oldest = math.min(oldest, due)
    else
      more = true
    end
  end
  local due = redis.call('ZRANGEBYSCORE', DUE .. class, '-inf', latest, 'WITHSCORES', 'LIMIT', 0, PAGE)
  for i = 1, #due, 2 do
    if kind and #names == wanted.batches[kind] then return names, oldest, true end
    consider(due[i], tonumber(due[i + 1]))
  end
  return names, oldest, more
end

local function write_leases(class, names, duration, lease)
  if #names == 0 then return end
  local ends, due, leases = digits(clock.now + duration), {}, {}
  for _, name in ipairs(names) do
    due[#due + 1], due[#due + 2] = ends, name
    leases[#leases + 1], leases[#leases + 2] = name, lease
  end
  redis.call('ZADD', DUE .. class, unpack(due))
  redis.call('HSET', LEASES, unpack(leases))
end

-- The newest event of each job that is pending for one, and what has changed, by name. The jobs were
-- leased from a class.
local function causes_of(names, class)
  local events, changed = {}, {}
  for _, name in ipairs(names) do
    local fields = {'deferred_since', 'entry', 'type', 'changed', 'class'}
    local found = redis.call('HMGET', JOB .. name, unpack(fields))
    if found[1] then
      merge_deferred(name)
      found = redis.call('HMGET', JOB .. name, unpack(fields))
    end
    if found[5] and tonumber(found[5]) ~= class then
      -- An earlier hash was evicted, with what had changed: the job was pending in this class, too.
      redis.call('ZREM', DUE .. found[5], name)
      redis.call('HSET', JOB .. name, 'class', class)
      redis.call('HDEL', JOB .. name, 'changed')
      found[4] = false
    end
    if found[2] then
      events[#events + 1] = {name = name, entry = found[2], type = found[3] or ''}
    end
    changed[name] = found[4] or nil
  end
  return events, next(changed) and changed or nil
end

-- Microseconds until another job is due; nil where none is pending.
local function wait_for(wanted)
  local wait
  local function consider(key, latest)
    local after = '(' .. digits(latest)
    local first = redis.call('ZRANGEBYSCORE', key, after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
    local gap = first and tonumber(first) - latest
    if gap and (not wait or gap < wait) then wait = gap end
  end
  for class = MISSED, wanted.least do consider(DUE .. class, latest_of(class, wanted)) end
  consider(DELAYED, clock.now)
  return wait
end

-- wanted: owner, duration (of the lease, microseconds), least (the least urgent class that is
--         considered), strict (the most urgent class comes first, without priority aging), shed
--         (kind -> true: only class MISSED of it is leased), debounce (microseconds that exports
--         wait beyond their due time), batches (kind -> how many jobs are leased at once, fewer
--         than PAGE; a kind that this daemon does not know is absent, and left to daemons that do),
--         lease (an earlier lease of the same jobs' kind that these jobs are added to; or nil)
-- Returns: token, moment (`now`), epoch, lease, names, events (array of {name, entry, type}),
--          changed (by name, as in the job's hash; or nil),
--          prefetched (the array from hooks.prefetch, in the order of names; or nil),
--          queued (microseconds for which the oldest job was due), more (whether other jobs are due
--          now), wait (as `wait_for`)
local function lease_due(wanted)
  next_token()
  -- A job that is enqueued now would be newer than the token of the lease that it is added to.
  local more = not wanted.lease and enqueue_by_time()
  local token = next_token() -- newer than the jobs just enqueued
  local lease = wanted.lease or wanted.owner .. '/' .. digits(token)
  local names, oldest, class = {}, clock.now, nil
  for _, turn in ipairs(turns(wanted)) do
    if #names > 0 then
      more = true
      break
    end
    local its_more
    names, oldest, its_more = choose(turn.class, wanted)
    more = more or its_more
    class = turn.class
    write_leases(class, names, wanted.duration, lease)
  end
  local events, changed = causes_of(names, class)
  return {
    token = token,
    moment = clock.now,
    epoch = clock.epoch,
    lease = lease,
    names = names,
    events = events,
    changed = changed,
    prefetched = hooks.prefetch(names, changed or {}),
    queued = clock.now - oldest,
    more = more,
    wait = wait_for(wanted),
  }
end
