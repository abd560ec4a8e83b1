-- Stands after `facts.lua`: lease what is due, the oldest of the class whose turn it is, and more of
-- its kind.

local SCAN = 1000 -- how many are looked at, or written, at once
local DOJOS = 20 -- how many at once whose boards have changed by themselves
-- What has been due for so long (microseconds) comes before newer marks of more urgent classes,
-- unless only those are wanted: so nothing starves, however much of them there is.
local PATIENCE = {[MISSED] = -LARGEST, [INTERACTIVE] = 0, [ORDINARY] = 1000000, [EXPORT] = 10000000,
  [BACKGROUND] = 60000000, [IDLE] = 300000000}

-- Owe what was put off until now, and what time alone has changed.
local function owe_by_time()
  local now, past = digits(clock.now), digits(clock.token)
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', LATER, '-inf', now, 'LIMIT', 0, SCAN)) do
    local class, name = entry:match('^%d+|(%d+)|(.*)$')
    owe(name, tonumber(class))
    redis.call('ZREM', LATER, entry)
  end
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', CHANGES, '-inf', past, 'LIMIT', 0, SCAN)) do
    owe_derived(name, ORDINARY)
    redis.call('ZREM', CHANGES, name)
  end
  for _, dojo in ipairs(redis.call('ZRANGEBYSCORE', AGING, '-inf', past, 'LIMIT', 0, DOJOS)) do
    local key = BOARDS .. dojo .. ':until'
    if is_a(key, 'zset') then
      for _, user in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', past, 'LIMIT', 0, SCAN)) do
        owe('standing:' .. dojo .. ':' .. user, ORDINARY)
        redis.call('ZREM', key, user) -- its answer says when the next one leaves
      end
      set_aging(dojo)
    else
      redis.call('ZREM', AGING, dojo)
    end
  end
end

-- The newest moment at which something of a class was due, to be taken now.
local function latest_of(class, wanted)
  return clock.now - (class == EXPORT and wanted.lull or 0)
end

-- The classes in which something is due, in the order in which they are looked at.
local function turns(wanted)
  local found = {}
  for class = MISSED, wanted.least do
    local oldest = tonumber(redis.call('ZRANGE', DUE .. class, 0, 0, 'WITHSCORES')[2])
    if oldest and oldest <= latest_of(class, wanted) then
      found[#found + 1] = {class = class, at = wanted.strict and class or oldest + PATIENCE[class]}
    end
  end
  table.sort(found, function(one, other)
    if one.at == other.at then return one.class < other.class end
    return one.at < other.at
  end)
  return found
end

-- What is to be taken of a class: the names, since when the oldest was due, and whether more is due.
local function choose(class, wanted)
  local latest, names, kind, oldest, more = digits(latest_of(class, wanted)), {}, nil, clock.now, 0
  local function consider(name, due)
    local its_kind = name:match('^[^:]+')
    local limit = wanted.batches[its_kind]
    if not limit or (class > MISSED and wanted.held[its_kind]) then return end
    kind = kind or its_kind
    if its_kind == kind and #names < limit then
      names[#names + 1] = name
      oldest = math.min(oldest, due)
    else
      more = 1
    end
  end
  local first, before = 0, nil
  repeat -- as long as all that is seen is taken
    before = #names
    local due = redis.call('ZRANGEBYSCORE', DUE .. class, '-inf', latest, 'WITHSCORES',
      'LIMIT', first, SCAN)
    for i = 1, #due, 2 do consider(due[i], tonumber(due[i + 1])) end
    first = first + SCAN
  until #names < before + SCAN
  return names, oldest, more
end

-- Thousands may be taken at once, so for each there is as little to do as can be.
local function write_leases(class, names, duration, lease)
  local ends = digits(clock.now + duration)
  for first = 1, #names, SCAN do
    local due, leases = {}, {}
    for i = first, math.min(first + SCAN - 1, #names) do
      due[#due + 1], due[#due + 2] = ends, names[i]
      leases[#leases + 1], leases[#leases + 2] = names[i], lease
    end
    redis.call('ZADD', DUE .. class, unpack(due))
    redis.call('HSET', LEASES, unpack(leases))
  end
end

-- For each that is owed for an event three: its name, entry and type of the newest.
local function events_of(names)
  local events = {}
  for _, name in ipairs(names) do
    local found = redis.call('HMGET', MARK .. name, 'late_since', 'entry', 'type')
    if found[1] then
      fold(name)
      found = redis.call('HMGET', MARK .. name, 'late_since', 'entry', 'type')
    end
    if found[2] then
      events[#events + 1], events[#events + 2], events[#events + 3] = name, found[2], found[3] or ''
    end
  end
  return events
end

-- For each dojo whose statistics were taken what its boards say; of other kinds nothing.
local function facts_of(names)
  local known = {}
  for i, name in ipairs(names) do
    local dojo = name:match('^dojo_stats:(.*)$')
    if not dojo then break end
    -- Boards that cannot be read are no reason not to lease.
    local is_read, found = pcall(facts, dojo)
    known[i] = is_read and found or {}
  end
  return known
end

-- Microseconds until something more is due (-1: nothing is).
local function wait_for(wanted)
  local wait = -1
  local function next_of(key, latest)
    local after = '(' .. digits(latest)
    local first = redis.call('ZRANGEBYSCORE', key, after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
    local gap = first and tonumber(first) - latest
    if gap and (wait < 0 or gap < wait) then wait = gap end
  end
  for class = MISSED, wanted.least do next_of(DUE .. class, latest_of(class, wanted)) end
  next_of(LATER, clock.now)
  return wait
end

-- wanted: owner, lease (microseconds), least (the least urgent class that is looked at), strict
--         (the most urgent class always comes first), held (kind -> true: of it only what a page
--         waits for is taken), lull (microseconds that large values wait beyond their due time),
--         batches (kind -> how many are taken at once; a kind that is not there is one that this
--         daemon does not know, and is left to those that do)
-- Returns: token, now, epoch, lease, microseconds until something more is due (-1: nothing is),
--          more (1: others are due now), microseconds for which the oldest taken was due, the names
--          of what was taken, their events, and what boards say: see above
local function lease_due(wanted)
  tick()
  owe_by_time()
  local token = tick() -- newer than the marks just set
  local lease = wanted.owner .. '/' .. digits(token)
  local names, oldest, more = {}, clock.now, 0
  for _, turn in ipairs(turns(wanted)) do
    if #names > 0 then
      more = 1
      break
    end
    local its_more
    names, oldest, its_more = choose(turn.class, wanted)
    more = math.max(more, its_more)
    write_leases(turn.class, names, wanted.lease, lease)
  end
  local events = events_of(names)
  return {digits(token), digits(clock.now), clock.epoch, lease, digits(wait_for(wanted)), more,
    digits(clock.now - oldest), names, events, facts_of(names)}
end
