-- The names of arrays (see `dirty` in boards/state), their keys, and the people on them.
--
-- include boards/state

local function key_of(dojo, array)
  local kind, scope, days = array:match('^(.):([^:]+):?(%d*)$')
  local where = scope == 'dojo' and 'dojo:' .. dojo or 'module:' .. dojo .. ':' .. scope
  if kind == 'b' then return SCOREBOARD_KEYS .. where .. ':' .. days end
  return (kind == 's' and SCORES_KEYS or CHALLENGE_SOLVES_KEYS) .. where
end

local KINDS = {scoreboard = 'b:', crews = 'b:', scores = 's:', challenge_solves = 'c:'}

local function array_of(key)
  local kind, where, rest = key:match('^stats:([%a_]+):(%a+):(.*)$')
  local scope = where == 'dojo' and rest:gsub('^[^:]+', 'dojo', 1) or rest:match('^[^:]+:(.*)$')
  return KINDS[kind] .. scope
end

-- Whether a key is of a scoreboard or of crews, which STATSD_EXPORTS=0 leaves out.
local function is_of_board(key)
  return key:sub(1, #SCOREBOARD_KEYS) == SCOREBOARD_KEYS or key:sub(1, #CREWS_KEYS) == CREWS_KEYS
end

local function has_boards(key_index)
  return key_index:find(SCOREBOARD_KEYS, 1, true) or key_index:find(CREWS_KEYS, 1, true)
end

-- A key index (JSON) without the keys of scoreboards and crews; `drop` is called with each of these.
local function without_boards(key_index, drop)
  local kept = {}
  for _, key in ipairs(cjson.decode(key_index)) do
    if not is_of_board(key) then
      kept[#kept + 1] = key
    elseif drop then
      drop(key)
    end
  end
  return #kept > 0 and cjson.encode(kept) or '[]' -- an empty table would be an object
end

-- The log of names is complete for later tokens than `names_from`. It begins anew where it, or the
-- names, were lost; the sentinel of the names then has another token.
local LONGEST_NAMES_LOG = 5000
local function begin_names_log()
  if is_a(NAMES_LOG, 'zset') and is_a(NAMES, 'hash') and redis.call('HEXISTS', NAMES, SENTINEL) == 1
    and redis.call('HEXISTS', CLOCK, 'names_from') == 1 then
    return false
  end
  if not is_a(NAMES, 'hash') then redis.call('DEL', NAMES) end
  redis.call('DEL', NAMES_LOG)
  redis.call('ZADD', NAMES_LOG, digits(clock.token), SENTINEL)
  redis.call('HSET', CLOCK, 'names_from', digits(clock.token))
  redis.call('HSET', NAMES, SENTINEL, digits(clock.token))
  return true
end

local function names_log()
  -- Readers take names from nowhere else where arrays are left out.
  if begin_names_log() and not has_exports() then enqueue(AFTER_LOSS, INTERACTIVE) end
  return NAMES_LOG
end

-- Store the name and e-mail address of a user. `person` is '' for a hidden or deleted one. Returns
-- whether it is what is stored now.
local function put_person(user, person, token)
  local before = redis.call('HGET', NAMES, user)
  local stored = before and tonumber(before:match('^(%d+)|')) or 0
  local is_same = (before and before:match('|(.*)$') or '') == person
  if stored >= token then return is_same end
  -- With the newer token also where nothing changes, and without a name where there is none to be
  -- shown: an older name may still come.
  redis.call('HSET', NAMES, user, digits(token) .. '|' .. person)
  if is_same then return true end
  redis.call('ZADD', names_log(), digits(clock.token), user)
  local excess = redis.call('ZCARD', NAMES_LOG) - LONGEST_NAMES_LOG
  if excess > 0 then
    redis.call('HSET', CLOCK, 'names_from', redis.call('ZRANGE', NAMES_LOG, excess - 1, excess - 1,
      'WITHSCORES')[2])
    redis.call('ZREMRANGEBYRANK', NAMES_LOG, 0, excess - 1)
  end
  return true
end
