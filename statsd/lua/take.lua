-- Lease what is due: of the most urgent class that has any, the oldest, and more of its kind.
--
-- request: owner, lease (microseconds), batches (kind -> how many are taken at once))
-- reply: token, epoch, lease, microseconds until something is due (-1: nothing is), more (1:
--        others are due now), names ...

local SCAN = 1000 -- how far into a class to look for more of one kind

tick()
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', LATER, '-inf', digits(clock.now), 'LIMIT', 0, SCAN)) do
  local class, name = entry:match('^%d+|(%d+)|(.*)$')
  owe(name, tonumber(class))
  redis.call('ZREM', LATER, entry)
end
local token = tick() -- newer than the marks just set

local taken, more = {}, 0
for class = MISSED, BACKGROUND do
  local due = redis.call('ZRANGEBYSCORE', DUE .. class, '-inf', digits(clock.now), 'LIMIT', 0, SCAN)
  if #due > 0 and #taken > 0 then
    more = 1
    break
  end
  local kind = due[1] and due[1]:match('^[^:]+')
  local limit = kind and request.batches[kind] or 1
  for _, name in ipairs(due) do
    if #taken < limit and name:match('^[^:]+') == kind then
      taken[#taken + 1] = name
      redis.call('ZADD', DUE .. class, digits(clock.now + request.lease), name)
    else
      more = 1
    end
  end
end

local lease = request.owner .. '/' .. digits(token)
for _, name in ipairs(taken) do redis.call('HSET', LEASES, name, lease) end

local wait = -1
local function earliest(key)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if first[2] then
    local gap = math.max(0, tonumber(first[2]) - clock.now)
    if wait < 0 or gap < wait then wait = gap end
  end
end
for class = MISSED, BACKGROUND do earliest(DUE .. class) end
earliest(LATER)

return {digits(token), clock.epoch, lease, digits(wait), more, unpack(taken)}
