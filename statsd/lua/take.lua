-- Lease what is due: the oldest of the class whose turn it is, and more of its kind.
--
-- request: owner, lease (microseconds), least (the least urgent class that is looked at), strict
--          (the most urgent class always comes first), held (kind -> true: of it only what a page
--          waits for is taken), lull (microseconds that large values wait beyond their due time),
--          batches (kind -> how many are taken at once; a kind that is not there is one that this
--          daemon does not know, and is left to those that do)
-- reply: token, now, epoch, lease, microseconds until something more is due (-1: nothing is),
--        more (1: others are due now), microseconds for which the oldest taken was due, the names
--        of what was taken; for each that is owed for an event three: its name, entry and type of the
--        newest; and for each taken of the kind `dojo_stats`, what its boards say: see `facts.lua`

local SCAN = 1000 -- how many are looked at, or written, at once
local DOJOS = 20 -- how many at once whose boards have changed by themselves

tick()
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', LATER, '-inf', digits(clock.now), 'LIMIT', 0, SCAN)) do
  local class, name = entry:match('^%d+|(%d+)|(.*)$')
  owe(name, tonumber(class))
  redis.call('ZREM', LATER, entry)
end
-- What time alone has changed.
local past = digits(clock.token)
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
local token = tick() -- newer than the marks just set
local lease = request.owner .. '/' .. digits(token)

-- What has been due for so long comes before newer marks of more urgent classes, unless only
-- those are wanted: so nothing starves, however much of them there is.
local PATIENCE = {[MISSED] = -LARGEST, [INTERACTIVE] = 0, [ORDINARY] = 1000000, [EXPORT] = 10000000,
  [BACKGROUND] = 60000000, [IDLE] = 300000000}
local function lull(class) return class == EXPORT and request.lull or 0 end

local turns = {}
for class = MISSED, request.least do
  local oldest = tonumber(redis.call('ZRANGE', DUE .. class, 0, 0, 'WITHSCORES')[2])
  if oldest and oldest <= clock.now - lull(class) then
    turns[#turns + 1] = {class = class, at = request.strict and class or oldest + PATIENCE[class]}
  end
end
table.sort(turns, function(one, other)
  if one.at == other.at then return one.class < other.class end
  return one.at < other.at
end)

local taken, kind, more, oldest = {}, nil, 0, clock.now
local function consider(class, name, due)
  local its_kind = name:match('^[^:]+')
  local limit = request.batches[its_kind]
  if not limit or (class > MISSED and request.held[its_kind]) then return end
  kind = kind or its_kind
  if its_kind == kind and #taken < limit then
    taken[#taken + 1] = name
    oldest = math.min(oldest, due)
  else
    more = 1
  end
end

-- Goes on as long as all that it sees is taken.
local function look_into(class)
  local latest, first, before = digits(clock.now - lull(class)), 0, nil
  repeat
    before = #taken
    local due = redis.call('ZRANGEBYSCORE', DUE .. class, '-inf', latest, 'WITHSCORES',
      'LIMIT', first, SCAN)
    for i = 1, #due, 2 do consider(class, due[i], tonumber(due[i + 1])) end
    first = first + SCAN
  until #taken < before + SCAN
end

-- Thousands may be taken at once, so for each there is as little to do as can be.
local function lease_from(class)
  local ends = digits(clock.now + request.lease)
  for first = 1, #taken, SCAN do
    local due, leases = {}, {}
    for i = first, math.min(first + SCAN - 1, #taken) do
      due[#due + 1], due[#due + 2] = ends, taken[i]
      leases[#leases + 1], leases[#leases + 2] = taken[i], lease
    end
    redis.call('ZADD', DUE .. class, unpack(due))
    redis.call('HSET', LEASES, unpack(leases))
  end
end

for _, turn in ipairs(turns) do
  if #taken > 0 then
    more = 1
    break
  end
  look_into(turn.class)
  lease_from(turn.class)
end

local events = {}
for _, name in ipairs(taken) do
  local found = redis.call('HMGET', MARK .. name, 'late_since', 'entry', 'type')
  if found[1] then
    fold(name)
    found = redis.call('HMGET', MARK .. name, 'late_since', 'entry', 'type')
  end
  if found[2] then
    events[#events + 1], events[#events + 2], events[#events + 3] = name, found[2], found[3] or ''
  end
end

local wait = -1
local function next_of(key, latest)
  local first = redis.call('ZRANGEBYSCORE', key, '(' .. digits(latest), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if first[2] then
    local gap = tonumber(first[2]) - latest
    if wait < 0 or gap < wait then wait = gap end
  end
end
for class = MISSED, request.least do next_of(DUE .. class, clock.now - lull(class)) end
next_of(LATER, clock.now)

local known = {}
if kind == 'dojo_stats' then
  for i, name in ipairs(taken) do
    -- Boards that cannot be read are no reason not to lease.
    local is_read, found = pcall(facts, name:match(':(.*)$') or '')
    known[i] = is_read and found or {}
  end
end

return {digits(token), digits(clock.now), clock.epoch, lease, digits(wait), more,
  digits(clock.now - oldest), taken, events, known}
