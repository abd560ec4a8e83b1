-- Stands after `common.lua` where live boards are read or written.
--
-- Whose boards they are: a dojo's, with those of its modules. They are built from one snapshot, put
-- in place in one step, and missing together. All keys begin with a prefix, that of the dojo or,
-- while they are built, one with the token of the snapshot:
--
--   prefix               hash: epoch, token (of the snapshot), modules (JSON array of indexes),
--                        puts (how often entries were put down), day (of the chart), solves, and for each day of the chart solvesN, usersN
--   prefix:PLACE:DAYS    sorted set for each place (`dojo`, or a module's index) and window: users
--                        by score, which holds the solves and, in its lower bits, the tie-break
--   prefix:users         hash: user -> record: its solves on the days of the chart, the moment of
--                        its newest solve, and JSON: name, email, newest solves
--   prefix:crews         hash: user -> what it solved, of those with a tag: the places and windows
--                        where it has entries, and JSON (see `statsd/calculators/crews.py`)
--   prefix:newest        sorted set: users by the moment of their newest solve of the last days
--   prefix:until         sorted set: users by the moment their first solve leaves a window
--   prefix:touched       sorted set: users by the token their entries were last computed at, where
--                        that is newer than the snapshot
--
-- Each has a sentinel, so that an empty one differs from one that is gone; but `touched`, which
-- without entries is as good as gone.
--
-- Beside them one sorted set, AGING, has the dojos by the first moment in their `until`.

local BOARDS = 'stats:boards:2:'
local WINDOWS = {0, 7, 30}  -- days; 0 is all time
local CHART = 4             -- days of the chart
local RANKS = 2147483648    -- scores are solves times this, plus a tie-break
local ARRAY = 'stats:scoreboard:dojo:'
local CREWS = 'stats:crews:dojo:'
local AGING = 'stats:internal:aging'
local SENTINEL = '-'        -- no user: the last of every board

local function board(prefix, place, days) return prefix .. ':' .. place .. ':' .. days end

local function places_in(modules)
  local places = {'dojo'}
  for _, index in ipairs(cjson.decode(modules)) do places[#places + 1] = string.format('%d', index) end
  return places
end

local function boards_in(prefix, places)
  local found = {prefix .. ':newest', prefix .. ':until'}
  for _, place in ipairs(places) do
    for _, days in ipairs(WINDOWS) do found[#found + 1] = board(prefix, place, days) end
  end
  return found
end

local function keys_of(prefix, places)
  local found = boards_in(prefix, places)
  found[#found + 1] = prefix .. ':users'
  found[#found + 1] = prefix .. ':crews'
  found[#found + 1] = prefix
  return found
end

local function is_a(key, type) return redis.call('TYPE', key).ok == type end

-- The places that the boards are of; nil where one is gone, or they are of a clock that was lost.
local function intact(prefix)
  for _, key in ipairs({prefix, prefix .. ':users', prefix .. ':crews'}) do
    if not is_a(key, 'hash') then return nil end
  end
  if not (is_a(prefix .. ':touched', 'zset') or is_a(prefix .. ':touched', 'none')) then return nil end
  local modules, epoch = unpack(redis.call('HMGET', prefix, 'modules', 'epoch'))
  if not modules or epoch ~= clock.epoch then return nil end
  local places = places_in(modules)
  for _, key in ipairs(boards_in(prefix, places)) do
    if not is_a(key, 'zset') then return nil end
  end
  return places
end

-- Arrays and boards come from one pass and change in one step. Where the array is newer, a daemon that
-- knows no boards has left them alone since, and they are as good as gone.
local function is_outdone(dojo)
  local built = tonumber(redis.call('HGET', BOARDS .. dojo, 'token'))
  local stamp = stamp_of(ARRAY .. dojo .. ':0'):gsub('%.', '')
  return not built or (tonumber(stamp) or 0) > built
end

local function whole(dojo)
  local places = intact(BOARDS .. dojo)
  return places and not is_outdone(dojo) and places or nil
end

-- Whether the boards may be wrong in another way than by entries that are under way: they, or what
-- follows from them under `name`, were owed for another reason after they were built.
local function is_doubtful(dojo, name)
  local built = tonumber(redis.call('HGET', BOARDS .. dojo, 'token') or 0)
  for _, owed in ipairs({'scoreboard:' .. dojo, name}) do
    if tonumber(redis.call('HGET', MARK .. owed, 'full') or 0) > built then return true end
  end
  return false
end

local function solves_in(score) return math.floor(tonumber(score or 0) / RANKS) end

-- What a record counts on the days of the chart.
local function charted(record)
  local counts = {}
  for count in ((record or ''):match('^[^|]*') or ''):gmatch('%d+') do
    counts[#counts + 1] = tonumber(count)
  end
  return counts
end

local function newest_in(record) return record and record:match('^[^|]*|(%d+)|') end

-- What a user has on the boards: `scores`, by place an array over the windows (0: no entry),
-- `record`, `crew` and `leaving`, the moment its first solve leaves a window (false: none).
local function entries_of(prefix, places, user)
  local scores = {}
  for _, place in ipairs(places) do
    local own = {}
    for i, days in ipairs(WINDOWS) do
      own[i] = tonumber(redis.call('ZSCORE', board(prefix, place, days), user) or 0)
    end
    scores[place] = own
  end
  return scores, redis.call('HGET', prefix .. ':users', user), redis.call('HGET', prefix .. ':crews', user),
    redis.call('ZSCORE', prefix .. ':until', user)
end

local function set_score(key, user, score)
  if score and score > 0 then
    return redis.call('ZADD', key, 'CH', digits(score), user)
  end
  return redis.call('ZREM', key, user)
end

local function add(prefix, field, difference)
  if difference ~= 0 then redis.call('HINCRBY', prefix, field, digits(difference)) end
end

local function put_text(key, user, text)
  if text then redis.call('HSET', key, user, text) else redis.call('HDEL', key, user) end
end

-- Put down all that a user has on the boards, as above; the totals move by the difference. Says
-- whether anything changed.
local function put(prefix, places, user, scores, record, crew, leaving)
  local total = board(prefix, 'dojo', 0)
  local before = redis.call('ZSCORE', total, user)
  local changed = 0
  for _, place in ipairs(places) do
    local own = scores[place]
    for i, days in ipairs(WINDOWS) do
      local difference = set_score(board(prefix, place, days), user, own and own[i])
      changed = changed + difference
      -- Who was not on the board of all time, the first, was on none of the place.
      if i == 1 and not own and difference == 0 then break end
    end
  end
  if leaving then
    redis.call('ZADD', prefix .. ':until', digits(leaving), user)
  else
    redis.call('ZREM', prefix .. ':until', user)
  end
  put_text(prefix .. ':crews', user, crew) -- no array depends on it
  redis.call('HINCRBY', prefix, 'puts', 1)
  add(prefix, 'solves', solves_in(redis.call('ZSCORE', total, user)) - solves_in(before))

  local old = redis.call('HGET', prefix .. ':users', user)
  if old == record then return changed > 0 end
  local was, is = charted(old), charted(record)
  for i = 1, CHART do
    local a, b = was[i] or 0, is[i] or 0
    add(prefix, 'solves' .. i, b - a)
    add(prefix, 'users' .. i, (b > 0 and 1 or 0) - (a > 0 and 1 or 0))
  end
  put_text(prefix .. ':users', user, record)
  local newest = newest_in(record)
  if newest then
    redis.call('ZADD', prefix .. ':newest', newest, user)
  else
    redis.call('ZREM', prefix .. ':newest', user)
  end
  return true
end

-- Put down when a dojo's boards next change by themselves.
local function set_aging(dojo)
  local first = redis.call('ZRANGE', BOARDS .. dojo .. ':until', 0, 0, 'WITHSCORES')
  if first[1] and first[1] ~= SENTINEL then
    redis.call('ZADD', AGING, first[2], dojo)
  else
    redis.call('ZREM', AGING, dojo)
  end
end

-- Whether the crews of a dojo may depend on what is put down: on its boards, in their value, or in
-- one that is being computed, is one who has a tag.
local function has_crews(dojo, prefix)
  return redis.call('HLEN', prefix .. ':crews') > 1
    or redis.pcall('STRLEN', CREWS .. dojo .. ':0') ~= #'[]'
    or redis.call('HEXISTS', LEASES, 'crews:' .. dojo) == 1
end

-- `held` are the arrays that there were beside them (JSON), which tell of modules, too.
local function remove_boards(prefix, held)
  local modules = is_a(prefix, 'hash') and redis.call('HGET', prefix, 'modules')
  local places = places_in(modules or '[]')
  for _, key in ipairs(cjson.decode(held)) do
    places[#places + 1] = key:match(':module:[^:]*:([^:]*):0$')
  end
  redis.call('UNLINK', prefix .. ':touched')
  for _, key in ipairs(keys_of(prefix, places)) do redis.call('UNLINK', key) end
end
