-- Stands after `boards.lua`: what a dojo's live boards say of the whole dojo.

local SHOWN = 5    -- of the newest solves
local ENOUGH = 1000

-- Nothing, where its boards are not whole, or doubtful; else: the day of the chart, solves, users, the
-- chart's solves and users (an array for each day), and the records of those who have the newest
-- solves.
local function facts(dojo)
  local prefix = BOARDS .. dojo
  if not whole(dojo) or is_doubtful(dojo, 'dojo_stats:' .. dojo) then return {} end
  local numbers = {'solves'}
  for i = 1, CHART do
    numbers[#numbers + 1] = 'solves' .. i
    numbers[#numbers + 1] = 'users' .. i
  end
  local chart, found = {}, redis.call('HMGET', prefix, unpack(numbers))
  for i = 1, CHART do
    chart[i] = {tonumber(found[2 * i] or 0), tonumber(found[2 * i + 1] or 0)}
  end

  -- All that are as new as the last one wanted: which of them comes first is not said here. Of
  -- very many any will do.
  local last = redis.call('ZREVRANGE', prefix .. ':newest', SHOWN - 1, SHOWN - 1,
    'WITHSCORES')[2] or '0'
  local users = redis.call('ZREVRANGEBYSCORE', prefix .. ':newest', '+inf', math.max(0, last),
    'LIMIT', 0, ENOUGH)
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
