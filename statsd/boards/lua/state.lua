-- The state of a dojo: what each of its users has, and everything that follows from it.
--
-- A whole pass over a dojo builds its state as a new generation, beside the current one. The string
-- BOARDS..dojo has the token of the current generation, so that one write swaps generations. All
-- other keys begin with the prefix BOARDS..dojo..'@'..token. A scope is `dojo`, or the index of a
-- module.
--
--   prefix                  hash: epoch; modules (indexes between commas: ',1,2,'); is_open (1: the
--                           dojo is open to all, and so has scores); structure (a
--                           digest of rows, modules and visibilities); log_from (the log is
--                           complete for later tokens); solves (counted ones, in the whole dojo)
--   prefix:users            hash: user -> record (below)
--   prefix:tagged           hash: the users on a board whose name has the tag of a crew
--   prefix:newest           sorted set: users by the moment of their newest solve of the last days
--   prefix:until            sorted set: users by the moment their first solve leaves a window
--   prefix:days             hash: sDAY solves and uDAY users of a UTC day (days since 1970), for
--                           the days that a chart can show
--   prefix:members          string: the memberships (statsd/boards/members.py)
--   prefix:log              sorted set: users by the token of the last write of their record
--   prefix:dirty            sorted set: arrays that have changed, by the token of the change. An
--                           array is `b:SCOPE:DAYS` (scoreboard and crews), `s:SCOPE` (scores) or
--                           `c:MODULE` (challenge solves).
--   prefix:SCOPE:DAYS       sorted set for each scope and window: users by score, which holds the
--                           solves and, in its lower bits, the tie-break
--   prefix:SCOPE:items      string: all of this once more, an item for each user: the user (4 bytes),
--                           the score of each window (8 each; 0: not on the board), and the count
--                           (4) and latest date (8) of its scores. A user keeps its place. Arrays
--                           are made from it, since it is read at once, and so at one moment.
--   prefix:MODULE:challenges  hash: challenge -> solves
--
-- Each key has a sentinel, so that an empty key differs from a missing one.
--
-- A record is binary, little endian: the token (8 bytes), a digest of the name (4), the place among
-- the items of the dojo (4; 0: none), the number of entries (4), the entries (25 each: module, index
-- of the row, challenge, solve id (4 each), date (8), flags (1)), and the places among the items of
-- modules: module, place (4 each). Dates are microseconds since 1970. Python reads and writes the
-- same form (statsd/calculators/user_entries.py).
--
-- The sorted set BOARD_CHANGES has the dojos by the first moment in their `until`. The hash NAMES
-- has the name and e-mail address of each user, once for all dojos. The hash GENERATIONS has all
-- generations in Redis, with their modules: also those that are being built or removed.
--
-- include jobs/queue
-- include definitions

local DAY = 86400000000
local ENTRY, FIELDS = 'i4i4i4i4i8B', 6
local HEADER, HEADER_SIZE = '<i8I4I4I4', 20
local ITEM, ITEM_SIZE = '<I4' .. ('i8'):rep(#WINDOWS) .. 'I4i8', 16 + 8 * #WINDOWS
local MOST_MARKS = 2000 -- arguments of one command
local MOST_AT_ONCE = 200 -- entries packed or unpacked at once: Lua's stack is limited
local LONGEST_LOG, LOG_STEP = 20000, 2000

local function is_a(key, type) return redis.call('TYPE', key).ok == type end
local function prefix_of(dojo, generation) return BOARDS .. dojo .. '@' .. generation end
local function board(prefix, scope, days) return prefix .. ':' .. scope .. ':' .. days end
local function items_of(prefix, scope) return prefix .. ':' .. scope .. ':items' end

-- The epoch; a reader's script has no clock, and does not write one.
local function epoch_now() return clock and clock.epoch or redis.call('HGET', CLOCK, 'epoch') end

-- Whether the arrays of scoreboards and crews are kept (STATSD_EXPORTS). A daemon publishes it.
local published
local function has_exports()
  published = published or redis.call('HGET', CLOCK, 'exports') or '1'
  return published ~= '0'
end

-- A generation, if its own keys are there; nil where any is missing, or of another epoch.
local function open_generation(dojo, generation)
  local prefix = prefix_of(dojo, generation)
  if not is_a(prefix, 'hash') then return nil end
  local epoch, modules, log_from, is_open =
    unpack(redis.call('HMGET', prefix, 'epoch', 'modules', 'log_from', 'is_open'))
  if epoch ~= epoch_now() or not modules or not tonumber(log_from) then return nil end
  for _, key in ipairs({':users', ':tagged', ':days'}) do
    if not is_a(prefix .. key, 'hash') then return nil end
  end
  for _, key in ipairs({':newest', ':until', ':log', ':dirty'}) do
    if not is_a(prefix .. key, 'zset') then return nil end
  end
  if not is_a(prefix .. ':members', 'string') then return nil end
  return {dojo = dojo, generation = generation, prefix = prefix, modules = modules,
    log_from = tonumber(log_from), is_open = is_open == '1', has_scope = {}}
end

local function current_generation(dojo)
  local generation = redis.pcall('GET', BOARDS .. dojo)
  return type(generation) == 'string' and generation:match('^%d+$') or nil
end

local function open(dojo)
  local generation = current_generation(dojo)
  return generation and open_generation(dojo, generation)
end

-- What readers need of a state: its generation and its prefix. They look at no more of its keys than
-- they read.
local function readable(dojo)
  local generation = current_generation(dojo)
  if not generation then return nil end
  local prefix = prefix_of(dojo, generation)
  if not is_a(prefix, 'hash') or redis.call('HGET', prefix, 'epoch') ~= epoch_now() then return nil end
  return {generation = generation, prefix = prefix}
end

-- The JSON of a name and e-mail address, from a value of the hash NAMES; nil where it is missing.
local function text_in(stored) return stored and stored:match('|(.+)$') or nil end

local function has_module(state, scope) return state.modules:find(',' .. scope .. ',', 1, true) end

-- Whether the keys of a scope are there.
local function has_keys_of(state, scope)
  if state.has_scope[scope] == nil then
    local found = true
    for _, days in ipairs(WINDOWS) do
      found = found and is_a(board(state.prefix, scope, days), 'zset')
    end
    found = found and is_a(items_of(state.prefix, scope), 'string')
    if scope ~= 'dojo' then
      found = found and is_a(state.prefix .. ':' .. scope .. ':challenges', 'hash')
    end
    state.has_scope[scope] = found
  end
  return state.has_scope[scope]
end

local function scopes_in(modules)
  local scopes = {'dojo'}
  for scope in modules:gmatch('[^,]+') do scopes[#scopes + 1] = scope end
  return scopes
end

-- The state of a dojo, if all of its keys are there. Its cost grows with the number of modules.
local function whole(dojo)
  local state = open(dojo)
  if not state then return nil end
  for _, scope in ipairs(scopes_in(state.modules)) do
    if not has_keys_of(state, scope) then return nil end
  end
  return state
end

-- Whether the state of a dojo is known to be wrong, so that a whole pass is pending.
local function has_doubt(state, dojo)
  return tonumber(redis.call('HGET', DOUBTS, dojo or state.dojo) or 0) > tonumber(state.generation)
end

-- Whether it is, or may be since Redis may have older data.
local function is_doubtful(state) return has_doubt(state) or has_doubt(state, EVERY_DOJO) end

local function solves_in(score) return math.floor(score / SCORE_UNIT) end

-- The format of some entries, made once for each number of them.
local formats = {}
local function format_of(count)
  formats[count] = formats[count] or '<' .. ENTRY:rep(count)
  return formats[count]
end

-- Unpack a record. Returns nil for none; entries are a flat array of FIELDS for each entry, and
-- places are by scope.
local function unpacked(record)
  if not record then return nil end
  local token, name, place, count = struct.unpack(HEADER, record)
  local entries, position = {}, HEADER_SIZE + 1
  for first = 1, count, MOST_AT_ONCE do
    local some = math.min(MOST_AT_ONCE, count - first + 1)
    local found = {struct.unpack(format_of(some), record, position)}
    position = found[#found]
    if first == 1 then
      found[#found] = nil
      entries = found
    else
      for i = 1, some * FIELDS do entries[#entries + 1] = found[i] end
    end
  end
  local places = {dojo = place > 0 and place or nil}
  while position <= #record do
    local module
    module, place, position = struct.unpack('<i4I4', record, position)
    places[module] = place
  end
  return {token = token, name = name, entries = entries, places = places}
end

local function packed(record)
  local entries = record.entries
  local parts =
    {struct.pack(HEADER, record.token, record.name, record.places.dojo or 0, #entries / FIELDS)}
  for first = 1, #entries, MOST_AT_ONCE * FIELDS do
    local last = math.min(#entries, first + MOST_AT_ONCE * FIELDS - 1)
    parts[#parts + 1] =
      struct.pack(format_of((last - first + 1) / FIELDS), unpack(entries, first, last))
  end
  for scope, place in pairs(record.places) do
    if scope ~= 'dojo' then parts[#parts + 1] = struct.pack('<i4I4', scope, place) end
  end
  return table.concat(parts)
end

local function is_scored(flags) return flags % 2 == 1 end
local function is_visible(flags) return flags % 4 >= 2 end
local function is_counted(flags) return flags >= 4 end

-- Call `differs(entry, at, sign)` for each entry that is only in one of two records: sign is -1 in
-- the one before, and 1 in the one now. Entries are in the order of their rows.
local function compare(before, now, differs)
  local i, j = 1, 1
  while i <= #before or j <= #now do
    local order
    if i > #before then
      order = 1
    elseif j > #now then
      order = -1
    else
      order = before[i] - now[j]
      if order == 0 then order = before[i + 1] - now[j + 1] end
    end
    if order == 0 then
      for field = 2, FIELDS - 1 do
        if before[i + field] ~= now[j + field] then
          differs(before, i, -1)
          differs(now, j, 1)
          break
        end
      end
    elseif order < 0 then
      differs(before, i, -1)
    else
      differs(now, j, 1)
    end
    if order <= 0 then i = i + FIELDS end
    if order >= 0 then j = j + FIELDS end
  end
end

-- What differs between two records: modules (set), solves (module -> challenge -> difference),
-- days (set of UTC days with other counted solves).
local function differences(before, now)
  local found = {modules = {}, solves = {}, days = {}}
  compare(before, now, function(entries, at, sign)
    local module, challenge, date, flags =
      entries[at], entries[at + 2], entries[at + 4], entries[at + 5]
    found.modules[module] = true
    if is_visible(flags) then
      local own = found.solves[module] or {}
      own[challenge] = (own[challenge] or 0) + sign
      found.solves[module] = own
    end
    if is_counted(flags) and date ~= NO_DATE then found.days[math.floor(date / DAY)] = true end
  end)
  return found
end

local STARTS = {} -- of the windows
for i, days in ipairs(WINDOWS) do STARTS[i] = days == 0 and -math.huge or days * DAY end

-- What follows from the entries of a user at this moment, for some scopes (a set).
--   items: scope -> {solves, last (arrays over the windows), count, latest (of the scores)}
--   newest, leaving: moments, or nil
local function follow_from(entries, scopes)
  local found, now = {items = {}}, clock.token
  for scope in pairs(scopes) do
    local own = {solves = {}, last = {}, count = 0, latest = NO_DATE}
    for i in ipairs(WINDOWS) do own.solves[i], own.last[i] = 0, -1 end
    found.items[scope] = own
  end
  local dojo, recent = found.items.dojo, now - RECENT_DAYS * DAY
  local function count(own, i, solve)
    own.solves[i] = own.solves[i] + 1
    if solve > own.last[i] then own.last[i] = solve end
  end
  local function score(own, date)
    own.count = own.count + 1
    if date > own.latest then own.latest = date end
  end
  for at = 1, #entries, FIELDS do
    local module, solve, date, flags =
      found.items[entries[at]], entries[at + 3], entries[at + 4], entries[at + 5]
    if is_scored(flags) then
      score(dojo, date)
      if module then score(module, date) end
    end
    if is_counted(flags) then
      for i, days in ipairs(WINDOWS) do
        if days == 0 or date >= now - STARTS[i] then
          count(dojo, i, solve)
          if module then count(module, i, solve) end
          if days > 0 then
            local leaves = date + STARTS[i] + 1 -- at the end of a window it is still inside
            if not found.leaving or leaves < found.leaving then found.leaving = leaves end
          end
        end
      end
      if date >= recent and (not found.newest or date > found.newest) then found.newest = date end
    end
  end
  return found
end

local function counted_on(entries, day)
  local count = 0
  for at = 1, #entries, FIELDS do
    local date = entries[at + 4]
    if is_counted(entries[at + 5]) and date ~= NO_DATE and math.floor(date / DAY) == day then
      count = count + 1
    end
  end
  return count
end

-- The item of a user at a place: {scores, count, latest}. Returns nil where it is not the user's.
local function item_at(state, scope, place, user)
  local item = {scores = {}, count = 0, latest = NO_DATE}
  for i in ipairs(WINDOWS) do item.scores[i] = 0 end
  if not place then return item end
  local first = place * ITEM_SIZE
  local raw = redis.call('GETRANGE', items_of(state.prefix, scope), first, first + ITEM_SIZE - 1)
  if #raw < ITEM_SIZE then return nil end
  local fields = {struct.unpack(ITEM, raw)}
  if fields[1] ~= tonumber(user) then return nil end
  for i in ipairs(WINDOWS) do item.scores[i] = fields[1 + i] end
  item.count, item.latest = fields[2 + #WINDOWS], fields[3 + #WINDOWS]
  return item
end

-- The items of a user in the scopes that the state knows; others are dropped from the set. Returns
-- nil where a key of one is missing or garbled, and else whether the state lacks a module.
local function items_before(state, scopes, places, user)
  local items, lacks = {}, false
  for scope in pairs(scopes) do
    if scope ~= 'dojo' and not has_module(state, scope) then
      scopes[scope] = nil
      lacks = true
    else
      items[scope] = has_keys_of(state, scope) and item_at(state, scope, places[scope], user)
      if not items[scope] then return nil end
    end
  end
  return items, lacks
end

-- Move a user in a scope: on the boards, and in the scores. `changed` collects the names of arrays;
-- with `all` they are those of all boards that the user is on.
local function move_item(state, scope, user, before, now, places, changed, all)
  local scores, differs = {}, false
  for i, days in ipairs(WINDOWS) do
    local solves = now.solves[i]
    local score = solves > 0 and solves * SCORE_UNIT + SCORE_UNIT - 1 - now.last[i] or 0
    local has_moved, key = score ~= before.scores[i], board(state.prefix, scope, days)
    if has_moved and score > 0 then redis.call('ZADD', key, digits(score), user) end
    if has_moved and score == 0 then redis.call('ZREM', key, user) end
    if has_moved or (all and score > 0) then changed[#changed + 1] = 'b:' .. scope .. ':' .. days end
    scores[i], differs = score, differs or has_moved
  end
  if now.count ~= before.count or now.latest ~= before.latest then
    changed[#changed + 1], differs = 's:' .. scope, true
  end
  if not differs then return end
  local key = items_of(state.prefix, scope)
  places[scope] = places[scope] or redis.call('STRLEN', key) / ITEM_SIZE
  scores[#scores + 1], scores[#scores + 2] = now.count, now.latest
  redis.call('SETRANGE', key, places[scope] * ITEM_SIZE,
    struct.pack(ITEM, tonumber(user), unpack(scores)))
end

local function move_challenges(state, module, solves, changed)
  local key, moved = state.prefix .. ':' .. module .. ':challenges', false
  for challenge, difference in pairs(solves) do
    if difference ~= 0 then
      redis.call('HINCRBY', key, challenge, difference)
      moved = true
    end
  end
  if moved then changed[#changed + 1] = 'c:' .. module end
end

local function move_days(state, days, before, now)
  local key, first = state.prefix .. ':days', math.floor(clock.token / DAY) - CHART_SPAN
  for day in pairs(days) do
    local was, is = counted_on(before, day), counted_on(now, day)
    if day >= first and was ~= is then
      redis.call('HINCRBY', key, 's' .. day, is - was)
      local users = (is > 0 and 1 or 0) - (was > 0 and 1 or 0)
      if users ~= 0 then redis.call('HINCRBY', key, 'u' .. day, users) end
    end
  end
end

local function set_moment(key, user, moment)
  if moment then redis.call('ZADD', key, moment, user) else redis.call('ZREM', key, user) end
end

-- Note the users whose records were written. The oldest notes of a long log are dropped.
local function log_write(state, user)
  local key = state.prefix .. ':log'
  redis.call('ZADD', key, digits(clock.token), user)
  if redis.call('ZCARD', key) > LONGEST_LOG then
    local last = redis.call('ZRANGE', key, LOG_STEP, LOG_STEP, 'WITHSCORES')[2]
    redis.call('HSET', state.prefix, 'log_from', last)
    redis.call('ZREMRANGEBYSCORE', key, 1, last) -- the sentinel has 0
  end
end

-- Mark arrays, but for those that are left out. Returns how many were marked.
local function mark(state, arrays)
  local token, marks = digits(clock.token), {}
  for _, array in ipairs(arrays) do
    local kind = array:sub(1, 2)
    if (kind ~= 'b:' or has_exports()) and (kind ~= 's:' or state.is_open) then
      marks[#marks + 1] = token
      marks[#marks + 1] = array
    end
  end
  for first = 1, #marks, MOST_MARKS do
    local last = math.min(#marks, first + MOST_MARKS - 1)
    redis.call('ZADD', state.prefix .. ':dirty', unpack(marks, first, last))
  end
  return #marks / 2
end

-- The entries of a record, with those of some challenges (array) replaced.
local function with_changed(before, now, changed)
  local has_changed, found, i, j = {}, {}, 1, 1
  for _, challenge in ipairs(changed) do has_changed[challenge] = true end
  local function add(entries, at)
    for field = at, at + FIELDS - 1 do found[#found + 1] = entries[field] end
  end
  while i <= #before or j <= #now do
    local order = j > #now and -1 or i > #before and 1 or before[i] - now[j]
    if order == 0 then order = before[i + 1] - now[j + 1] end
    if order < 0 and not has_changed[before[i + 2]] then add(before, i) end
    if order >= 0 then add(now, j) end
    if order <= 0 then i = i + FIELDS end
    if order >= 0 then j = j + FIELDS end
  end
  return found
end

-- Write the record of a user, and move everything that follows from it by the difference.
--   new: token, name (digest), entries (flat array), changed (array of challenges: the entries are only
--        theirs; nil: they are all), tagged (whether the name has a tag)
-- Returns nil where a key is missing (nothing is written then), else {newer (the stored record is
-- newer; nothing is written), lacks (a module), arrays (how many changed), left and leaving (when the
-- user's first solve leaves a window: before, and now; or nil), has_new_name}.
local function put(state, user, new)
  local prefix = state.prefix
  local raw = redis.call('HGET', prefix .. ':users', user)
  if not raw and #new.entries == 0 then return {arrays = 0} end
  local old = unpacked(raw) or {token = 0, name = new.name, entries = {}, places = {}}
  if old.token > new.token then return {newer = true, arrays = 0} end
  local before, places = old.entries, old.places
  local now = new.changed and with_changed(before, new.entries, new.changed) or new.entries
  local found = differences(before, now)
  local leaves = tonumber(redis.call('ZSCORE', prefix .. ':until', user))
  -- With another name, all arrays that the user is on change; as time passes, any board may.
  local has_new_name = old.name ~= new.name
  local scopes = {dojo = true}
  for module in pairs(found.modules) do scopes[module] = true end
  if has_new_name or (leaves and leaves <= clock.token) then
    for at = 1, #now, FIELDS do scopes[now[at]] = true end
  end
  local items, lacks = items_before(state, scopes, places, user)
  if not items then return nil end

  local changed, follows = {}, follow_from(now, scopes)
  local solves = follows.items.dojo.solves[1]
  local had_solves = solves_in(items.dojo.scores[1])
  local is_tagged, was_tagged = new.tagged and solves > 0, new.tagged and had_solves > 0
  if has_new_name then was_tagged = redis.call('HEXISTS', prefix .. ':tagged', user) == 1 end
  for scope, own in pairs(follows.items) do
    -- Crews list the challenges of their members.
    local has_changed = found.modules[scope] or (scope == 'dojo' and next(found.modules))
    local all = has_new_name or (is_tagged and has_changed)
    move_item(state, scope, user, items[scope], own, places, changed, all)
  end
  for module, own in pairs(found.solves) do
    if scopes[module] then move_challenges(state, module, own, changed) end
  end
  if solves ~= had_solves then redis.call('HINCRBY', prefix, 'solves', solves - had_solves) end
  move_days(state, found.days, before, now)
  set_moment(prefix .. ':newest', user, follows.newest)
  if follows.leaving ~= leaves then set_moment(prefix .. ':until', user, follows.leaving) end
  if is_tagged and not was_tagged then redis.call('HSET', prefix .. ':tagged', user, '') end
  if was_tagged and not is_tagged then redis.call('HDEL', prefix .. ':tagged', user) end
  local record = packed({token = new.token, name = new.name, entries = now, places = places})
  if record ~= raw then redis.call('HSET', prefix .. ':users', user, record) end
  log_write(state, user)
  return {lacks = lacks, arrays = mark(state, changed), left = leaves, leaving = follows.leaving,
    has_new_name = has_new_name}
end

-- Move what follows from the record of a user as time passes. Returns as `put`.
local function put_again(state, user)
  local old = unpacked(redis.call('HGET', state.prefix .. ':users', user))
  if not old then
    redis.call('ZREM', state.prefix .. ':until', user)
    return {arrays = 0}
  end
  old.tagged = redis.call('HEXISTS', state.prefix .. ':tagged', user) == 1
  return put(state, user, old)
end

-- Set the moment at which a dojo's boards next change by themselves.
local function set_next_expiry(dojo)
  local generation = current_generation(dojo)
  local key = generation and prefix_of(dojo, generation) .. ':until'
  local first = key and is_a(key, 'zset') and redis.call('ZRANGE', key, 0, 0, 'WITHSCORES') or {}
  if first[1] and first[1] ~= SENTINEL then
    redis.call('ZADD', BOARD_CHANGES, first[2], dojo)
  else
    redis.call('ZREM', BOARD_CHANGES, dojo)
  end
end

-- Delete the keys of a generation.
local function remove_generation(dojo, generation)
  local id = dojo .. '@' .. generation
  local prefix = prefix_of(dojo, generation)
  local modules = redis.call('HGET', GENERATIONS, id)
    or (is_a(prefix, 'hash') and redis.call('HGET', prefix, 'modules')) or ''
  for _, scope in ipairs(scopes_in(modules)) do
    for _, days in ipairs(WINDOWS) do redis.call('UNLINK', board(prefix, scope, days)) end
    redis.call('UNLINK', items_of(prefix, scope), prefix .. ':' .. scope .. ':challenges')
  end
  redis.call('UNLINK', prefix, prefix .. ':users', prefix .. ':tagged', prefix .. ':newest',
    prefix .. ':until', prefix .. ':days', prefix .. ':members', prefix .. ':log', prefix .. ':dirty')
  redis.call('HDEL', GENERATIONS, id)
end
