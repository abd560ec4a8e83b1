-- The totals of a dojo, from its live boards.
--
-- include boards/state

local MOST_RECORDS = 1000

-- Returns nil where the boards are missing or doubtful; else: day (of the chart), solves, users,
-- chart (array over its days of {solves, users}), records (of the users with the newest solves).
local function totals_of(dojo)
  local prefix = BOARDS .. dojo
  if not whole(dojo) or is_doubtful(dojo, 'dojo_stats:' .. dojo) then return nil end
  local fields = {'solves'}
  for i = 1, CHART_SIZE do
    fields[#fields + 1] = 'solves' .. i
    fields[#fields + 1] = 'users' .. i
  end
  local chart, found = {}, redis.call('HMGET', prefix, unpack(fields))
  for i = 1, CHART_SIZE do
    chart[i] = {tonumber(found[2 * i] or 0), tonumber(found[2 * i + 1] or 0)}
  end

  -- All users whose newest solve is at least as new as the last shown solve: the caller orders
  -- solves of equal dates. Where very many are equal, any of them may be shown.
  local last = redis.call('ZREVRANGE', prefix .. ':newest', RECENT_SOLVES - 1, RECENT_SOLVES - 1,
    'WITHSCORES')[2] or '0'
  local users = redis.call('ZREVRANGEBYSCORE', prefix .. ':newest', '+inf', math.max(0, last),
    'LIMIT', 0, MOST_RECORDS)
  local records = {}
  if #users > 0 then
    for i, record in ipairs(redis.call('HMGET', prefix .. ':users', unpack(users))) do
      records[i] = record or ''
    end
  end
  return {
    day = redis.call('HGET', prefix, 'day'),
    solves = tonumber(found[1] or 0),
    users = redis.call('ZCARD', board(prefix, 'dojo', 0)) - 1,
    chart = chart,
    records = records,
  }
end
