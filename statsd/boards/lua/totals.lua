-- The totals of a dojo, from its state.
--
-- include boards/state

local MOST_RECORDS = 1000
local MOST_SOLVES = 100000 -- of a dojo whose statistics are computed in full

-- Whether the statistics of a dojo were enqueued for an event, and not because its state changed.
-- The event of a solve may be under way meanwhile, so that the state lacks it. Then they are
-- computed in full, but for large dojos.
local function is_of_event(state)
  return redis.call('HEXISTS', JOB .. 'dojo_stats:' .. state.dojo, 'not_derived') == 1
    and tonumber(redis.call('HGET', state.prefix, 'solves') or 0) <= MOST_SOLVES
end

-- Returns nil where the state is missing or doubtful; else: solves, users, chart (array over its
-- days of {solves, users}), newest (flat array of entries, the newest ones among them).
local function totals_of(dojo)
  local state = open(dojo)
  if not state or is_doubtful(state) or is_of_event(state) or not has_keys_of(state, 'dojo') then
    return nil
  end
  local prefix, today = state.prefix, math.floor(clock.token / DAY)
  local fields = {}
  for _, days in ipairs(CHART_DAYS) do
    fields[#fields + 1] = 's' .. digits(today - days)
    fields[#fields + 1] = 'u' .. digits(today - days)
  end
  local chart, found = {}, redis.call('HMGET', prefix .. ':days', unpack(fields))
  for i = 1, #CHART_DAYS do
    chart[i] = {tonumber(found[2 * i - 1] or 0), tonumber(found[2 * i] or 0)}
  end

  -- All users whose newest solve is at least as new as the last shown solve: the caller orders
  -- solves of equal dates. Where very many are equal, any of them may be shown.
  local last = redis.call('ZREVRANGE', prefix .. ':newest', RECENT_SOLVES - 1, RECENT_SOLVES - 1,
    'WITHSCORES')[2]
  local users = redis.call('ZREVRANGEBYSCORE', prefix .. ':newest', '+inf', last or '-inf',
    'LIMIT', 0, MOST_RECORDS)
  local newest, earliest = {}, tonumber(last) or -math.huge
  for _, user in ipairs(users) do
    local record = user ~= SENTINEL and unpacked(redis.call('HGET', prefix .. ':users', user))
    local entries = record and record.entries or {}
    for at = 1, #entries, FIELDS do
      if entries[at + 4] >= earliest then
        for field = at, at + FIELDS - 1 do newest[#newest + 1] = entries[field] end
      end
    end
  end
  return {
    solves = tonumber(redis.call('HGET', prefix, 'solves') or 0),
    users = redis.call('ZCARD', board(prefix, 'dojo', 0)) - 1,
    chart = chart,
    newest = newest,
  }
end
