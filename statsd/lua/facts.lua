-- Read what a dojo's live boards say of the whole dojo.
--
-- request: dojos, newest (how many of the newest solves are wanted)
-- reply: for each dojo nothing, where its boards are not whole, or something else than a change of
--        them is owed; else: the day of the chart, solves, users, the chart's solves and users (an
--        array for each day), and the records of those who have the newest solves

tick()

local function facts(dojo)
  local prefix = BOARDS .. dojo
  local derived = redis.call('HGET', MARK .. 'dojo_stats:' .. dojo, 'derived')
  if not (derived and whole(prefix)) then return {} end
  local numbers = {'solves'}
  for i = 1, CHART do
    numbers[#numbers + 1] = 'solves' .. i
    numbers[#numbers + 1] = 'users' .. i
  end
  local chart, found = {}, redis.call('HMGET', prefix, unpack(numbers))
  for i = 1, CHART do
    chart[i] = {tonumber(found[2 * i] or 0), tonumber(found[2 * i + 1] or 0)}
  end

  -- All that are as new as the last one wanted: which of them comes first is not said here.
  local last = redis.call('ZREVRANGE', prefix .. ':newest', request.newest - 1, request.newest - 1,
    'WITHSCORES')[2] or '0'
  local users = redis.call('ZREVRANGEBYSCORE', prefix .. ':newest', '+inf', math.max(0, last))
  local records = {}
  if #users > 0 then
    for i, record in ipairs(redis.call('HMGET', prefix .. ':users', unpack(users))) do
      records[i] = record or ''
    end
  end
  return {
    redis.call('HGET', prefix, 'day'), tonumber(found[1] or 0),
    redis.call('ZCARD', board(prefix, 'dojo', 0)) - 1, chart, records,
  }
end

local reply = {}
for i, dojo in ipairs(request.dojos) do reply[i] = facts(dojo) end
return reply
