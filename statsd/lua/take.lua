-- Lease what is due: of the most urgent class that has any, the oldest, and more of its kind.
--
-- request: owner, lease (microseconds), least (the least urgent class that is looked at), lull
--          (microseconds that large values wait beyond their due time), batches (kind -> how many
--          are taken at once; a kind that is not there is one that this daemon does not know, and
--          is left to those that do)
-- reply: token, now, epoch, lease, microseconds until something more is due (-1: nothing is),
--        more (1: others are due now), names ...

local SCAN = 1000 -- how far into a class to look
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

local taken, kind, more = {}, nil, 0
local function consider(class, name)
  local its_kind = name:match('^[^:]+')
  local limit = request.batches[its_kind]
  if not limit then return end
  kind = kind or its_kind
  if its_kind == kind and #taken < limit then
    taken[#taken + 1] = name
    redis.call('ZADD', DUE .. class, digits(clock.now + request.lease), name)
    redis.call('HSET', LEASES, name, lease)
  else
    more = 1
  end
end
local function lull(class) return class == EXPORT and request.lull or 0 end
for class = MISSED, request.least do
  local latest = digits(clock.now - lull(class))
  local due = redis.call('ZRANGEBYSCORE', DUE .. class, '-inf', latest, 'LIMIT', 0, SCAN)
  if #taken > 0 then
    if #due > 0 then more = 1 end
  else
    for _, name in ipairs(due) do consider(class, name) end
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

return {digits(token), digits(clock.now), clock.epoch, lease, digits(wait), more, unpack(taken)}
