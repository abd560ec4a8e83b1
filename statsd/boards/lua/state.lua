-- The state of a dojo's live boards: its own scoreboards and those of its modules.
--
-- All boards of a dojo are built from one snapshot, installed in one step, and are missing
-- together. All keys begin with a prefix: the prefix of the dojo or, during the build, one with the
-- token of the snapshot. A scope is `dojo`, or the index of a module.
--
--   prefix               hash: epoch, token (of the snapshot), modules (JSON array of indexes),
--                        puts (how often user entries were written), day (of the chart), solves,
--                        and for each day of the chart solvesN, usersN
--   prefix:SCOPE:DAYS    sorted set for each scope and window: users by score, which holds the
--                        solves and, in its lower bits, the tie-break
--   prefix:users         hash: user -> record: its solves on the days of the chart, the moment of
--                        its newest solve, and JSON: name, email, newest solves
--   prefix:crews         hash: user -> its solves, for users with a tag: the scopes and windows
--                        where it has entries, and JSON (see statsd/calculators/crews.py)
--   prefix:newest        sorted set: users by the moment of their newest solve of the last days
--   prefix:until         sorted set: users by the moment their first solve leaves a window
--   prefix:touched       sorted set: users by the token of their last entries, if it is newer than
--                        the snapshot
--
-- Each key has a sentinel, so that an empty key differs from a missing one. Only `touched` has no
-- sentinel: empty and missing mean the same there.
--
-- The sorted set BOARD_CHANGES has the dojos by the first moment in their `until`.
--
-- include jobs/queue
-- include definitions

local function board(prefix, scope, days) return prefix .. ':' .. scope .. ':' .. days end

local function scopes_in(modules)
  local scopes = {'dojo'}
  for _, index in ipairs(cjson.decode(modules)) do scopes[#scopes + 1] = string.format('%d', index) end
  return scopes
end

local function boards_in(prefix, scopes)
  local found = {prefix .. ':newest', prefix .. ':until'}
  for _, scope in ipairs(scopes) do
    for _, days in ipairs(WINDOWS) do found[#found + 1] = board(prefix, scope, days) end
  end
  return found
end

local function keys_of(prefix, scopes)
  local found = boards_in(prefix, scopes)
  found[#found + 1] = prefix .. ':users'
  found[#found + 1] = prefix .. ':crews'
  found[#found + 1] = prefix
  return found
end

local function is_a(key, type) return redis.call('TYPE', key).ok == type end

-- The scopes of the boards; nil where a key is missing, or where the boards are of another epoch.
local function intact(prefix)
  for _, key in ipairs({prefix, prefix .. ':users', prefix .. ':crews'}) do
    if not is_a(key, 'hash') then return nil end
  end
  if not (is_a(prefix .. ':touched', 'zset') or is_a(prefix .. ':touched', 'none')) then return nil end
  local modules, epoch = unpack(redis.call('HMGET', prefix, 'modules', 'epoch'))
  if not modules or epoch ~= clock.epoch then return nil end
  local scopes = scopes_in(modules)
  for _, key in ipairs(boards_in(prefix, scopes)) do
    if not is_a(key, 'zset') then return nil end
  end
  return scopes
end

-- The exported array and the boards come from one pass and change in one step. Where the array is
-- newer, a daemon of a version without boards has written it, and the boards are out of date.
local function is_superseded(dojo)
  local built = tonumber(redis.call('HGET', BOARDS .. dojo, 'token'))
  local exported = as_of(SCOREBOARD_ARRAY .. dojo .. ':0'):gsub('%.', '')
  return not built or (tonumber(exported) or 0) > built
end

local function whole(dojo)
  local scopes = intact(BOARDS .. dojo)
  return scopes and not is_superseded(dojo) and scopes or nil
end

-- Whether the boards may be wrong, apart from pending user entries: since they were built, the
-- scoreboard or the job `name` was enqueued for another reason than an answer.
local function is_doubtful(dojo, name)
  local built = tonumber(redis.call('HGET', BOARDS .. dojo, 'token') or 0)
  for _, job in ipairs({'scoreboard:' .. dojo, name}) do
    if tonumber(redis.call('HGET', JOB .. job, 'not_derived') or 0) > built then return true end
  end
  return false
end

local function solves_in(score) return math.floor(tonumber(score or 0) / SCORE_UNIT) end

-- The solves of a record on each day of the chart.
local function charted(record)
  local counts = {}
  for count in ((record or ''):match('^[^|]*') or ''):gmatch('%d+') do
    counts[#counts + 1] = tonumber(count)
  end
  return counts
end

local function newest_in(record) return record and record:match('^[^|]*|(%d+)|') end

-- Read the entries of a user. Returns `scores`, by scope an array over the windows (0: no entry),
-- `record`, `crew`, and `leaving`: the moment when its first solve leaves a window (false: none).
local function entries_of(prefix, scopes, user)
  local scores = {}
  for _, scope in ipairs(scopes) do
    local own = {}
    for i, days in ipairs(WINDOWS) do
      own[i] = tonumber(redis.call('ZSCORE', board(prefix, scope, days), user) or 0)
    end
    scores[scope] = own
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

-- Write the entries of a user, as above; the totals move by the difference. Returns whether
-- anything changed.
local function put(prefix, scopes, user, scores, record, crew, leaving)
  local total = board(prefix, 'dojo', 0)
  local before = redis.call('ZSCORE', total, user)
  local changed = 0
  for _, scope in ipairs(scopes) do
    local own = scores[scope]
    for i, days in ipairs(WINDOWS) do
      local difference = set_score(board(prefix, scope, days), user, own and own[i])
      changed = changed + difference
      -- The first board is that of all time. A user without an entry there has none in the scope.
      if i == 1 and not own and difference == 0 then break end
    end
  end
  if leaving then
    redis.call('ZADD', prefix .. ':until', digits(leaving), user)
  else
    redis.call('ZREM', prefix .. ':until', user)
  end
  put_text(prefix .. ':crews', user, crew) -- no exported array depends on it
  redis.call('HINCRBY', prefix, 'puts', 1)
  add(prefix, 'solves', solves_in(redis.call('ZSCORE', total, user)) - solves_in(before))

  local old = redis.call('HGET', prefix .. ':users', user)
  if old == record then return changed > 0 end
  local was, is = charted(old), charted(record)
  for i = 1, CHART_SIZE do
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

-- Set the moment at which a dojo's boards next change by themselves.
local function set_next_expiry(dojo)
  local first = redis.call('ZRANGE', BOARDS .. dojo .. ':until', 0, 0, 'WITHSCORES')
  if first[1] and first[1] ~= SENTINEL then
    redis.call('ZADD', BOARD_CHANGES, first[2], dojo)
  else
    redis.call('ZREM', BOARD_CHANGES, dojo)
  end
end

-- Whether the crews of a dojo may depend on an entry. That is so if a user with a tag is on its
-- boards or in the cached crews, or if a worker computes the crews now.
local function has_crews(dojo, prefix)
  return redis.call('HLEN', prefix .. ':crews') > 1
    or redis.pcall('STRLEN', CREWS_ARRAY .. dojo .. ':0') ~= #'[]'
    or redis.call('HEXISTS', LEASES, 'crews:' .. dojo) == 1
end

-- `key_index` is the JSON array of the exported keys; it also names the modules.
local function remove_boards(prefix, key_index)
  local modules = is_a(prefix, 'hash') and redis.call('HGET', prefix, 'modules')
  local scopes = scopes_in(modules or '[]')
  for _, key in ipairs(cjson.decode(key_index)) do
    scopes[#scopes + 1] = key:match(':module:[^:]*:([^:]*):0$')
  end
  redis.call('UNLINK', prefix .. ':touched')
  for _, key in ipairs(keys_of(prefix, scopes)) do redis.call('UNLINK', key) end
end
