-- Write values with their stamps and remove the marks they answer, in one step.
--
-- A value is refused when its lease is no longer this worker's (another one answers), when the
-- clock was lost since, or when its token is too old. It is not written over a newer stamp.
-- A mark goes only when the token is newer than it; else it is due again at once. Of a value that
-- is what lies there already only the stamp moves.
--
-- request: token, epoch, lease, oldest (microseconds a token may be old), answers: arrays of
--          name, holdings (JSON array of keys), values (arrays of key, value), marks (arrays
--          of name, class, delay), covered (ids of solves), boards (what becomes of a dojo's boards,
--          see below; may be nil), took (microseconds), rest (microseconds; nil where it is not
--          costly), changes (the moment from which another value is right; may be nil); next (what
--          is to be leased then, as `lease_due` takes it; may be nil)
-- reply: for each answer three: 'settled', 'again' (written; marked meanwhile), 'late' (refused;
--        still leased) or 'lost' (refused; the debt is no longer this worker's); the milliseconds
--        since the oldest event that it answers was published (-1: none did); how many of its
--        values were what lay there already. Beside them what was leased; nothing where an answer
--        was late: that is to be done again first.

local newest = tick()
local token = tonumber(request.token)
local stamp = string.format('%d.%06d', math.floor(token / 1000000), token % 1000000)

-- A stamp from after this moment is nobody's: no token was given out for it.
local function older(key)
  local stored = tonumber(stamp_of(key))
  return not (stored and stored >= tonumber(stamp) and stored <= newest / 1000000)
end

local function is_same(key, value)
  return redis.pcall('STRLEN', key) == #value and redis.call('GET', key) == value
end

local function write(name, values)
  local unchanged = 0
  for _, pair in ipairs(values) do
    local key, value = pair[1], pair[2]
    if older(key) then
      if is_same(key, value) then
        unchanged = unchanged + 1
      else
        redis.call('SET', key, value)
      end
      redis.call('SET', key .. ':updated', stamp)
      redis.call('HSET', OWNERS, key, name)
    end
  end
  return unchanged
end

-- The keys of a refresh are those it wrote last: what it no longer writes goes, unless another
-- refresh (a dojo that took over a reference id) has written it since.
local function keep_books(name, before, holdings)
  if before == holdings then return end
  local now = {}
  for _, key in ipairs(cjson.decode(holdings)) do now[key] = true end
  for _, key in ipairs(cjson.decode(before)) do
    if not now[key] and redis.call('HGET', OWNERS, key) == name then
      if older(key) then redis.call('DEL', key, key .. ':updated') end
      redis.call('HDEL', OWNERS, key)
    end
  end
  if holdings == '[]' then
    redis.call('HDEL', HOLDINGS, name)
    redis.call('HDEL', RUNS, name)
  else
    redis.call('HSET', HOLDINGS, name, holdings)
  end
end

-- What one answer found out of a dojo holds for the others in this step.
local state_of = {}
local function boards_of(dojo)
  if state_of[dojo] then return state_of[dojo] end
  local prefix = BOARDS .. dojo
  local state = {prefix = prefix, places = whole(dojo), known = {}}
  if state.places then
    for _, place in ipairs(state.places) do state.known[place] = true end
    local built, day = unpack(redis.call('HMGET', prefix, 'token', 'day'))
    state.built, state.day = tonumber(built), day
  end
  state_of[dojo] = state
  return state
end

-- Once for each name, unless it is more urgent now, or owed for an older event.
local owed = {[owe] = {}, [owe_derived] = {}}
local function once(set, name, class)
  local before = owed[set][name]
  local since = cause and cause.since or LARGEST
  if not before or before.class > class or before.since > since then
    set(name, class)
    owed[set][name] = {class = class, since = since}
  end
end

-- One user's entries, as they were at the token. Boards from a later snapshot have newer ones.
local function stand(dojo, user, day, scores, record, crew, leaving)
  local boards = boards_of(dojo)
  if not boards.places then
    once(owe, 'scoreboard:' .. dojo, EXPORT)
    once(owe, 'dojo_stats:' .. dojo, INTERACTIVE)
    return
  end
  if token <= boards.built then return end
  for place in pairs(scores) do
    if not boards.known[place] then once(owe, 'scoreboard:' .. dojo, EXPORT) end -- a module has come
  end
  if boards.day ~= day then -- one has ended since they were built
    -- The totals of the chart stay those of the old day, but nobody is without a name.
    record = redis.call('HGET', boards.prefix .. ':users', user) or record and record:gsub('%d+', '0', CHART)
    once(owe, 'scoreboard:' .. dojo, EXPORT)
  end
  redis.call('ZADD', boards.prefix .. ':touched', digits(token), user)
  if crew or has_crews(dojo, boards.prefix) then once(owe_derived, 'crews:' .. dojo, EXPORT) end
  local changed = put(boards.prefix, boards.places, user, scores, record, crew, leaving)
  set_aging(dojo)
  if changed then once(owe_derived, 'scoreboard:' .. dojo, EXPORT) end
  -- Whatever the boards had: the value may be from a snapshot in between.
  once(owe_derived, 'dojo_stats:' .. dojo, INTERACTIVE)
end

-- Put entries that were computed for a later moment into the boards that are built. What the old
-- boards do not have, because a module has come or a day has ended since, is computed again.
local function carry_over(dojo, prefix, before, built, places)
  local known = {}
  for _, place in ipairs(before) do known[place] = true end
  local same_day = redis.call('HGET', prefix, 'day') == redis.call('HGET', built, 'day')
  local later = redis.call('ZRANGEBYSCORE', prefix .. ':touched', '(' .. digits(token), '+inf')
  for _, user in ipairs(later) do
    local scores, record, crew, leaving = entries_of(prefix, before, user)
    local built_scores, built_record = entries_of(built, places, user)
    local again = not same_day
    if not same_day then record = built_record end
    for _, place in ipairs(places) do
      if not known[place] then
        scores[place] = built_scores[place]
        again = true
      end
    end
    if again then owe('standing:' .. dojo .. ':' .. user, INTERACTIVE) end
    -- The arrays, which are from the same pass, do not have it.
    if put(built, places, user, scores, record, crew, leaving) then owe_derived('scoreboard:' .. dojo, EXPORT) end
  end
end

-- New boards take the place of the old ones.
local function install(name, held, dojo, built)
  local prefix = BOARDS .. dojo
  local places = intact(built)
  if not places then return owe(name, INTERACTIVE) end -- evicted before they were in place
  local before = intact(prefix)
  if before then carry_over(dojo, prefix, before, built, places) end
  local all_there = before and is_a(prefix .. ':touched', 'zset')
  if not all_there and token < tonumber(redis.call('HGET', MARK .. name, 'marked') or 0) then
    owe(name, EXPORT) -- what was put down meanwhile is lost, and nothing else tells of it
  end
  local has_same = before and table.concat(before, ',') == table.concat(places, ',')
  if not has_same or has_crews(dojo, prefix) or has_crews(dojo, built) then
    owe_derived('crews:' .. dojo, EXPORT)
  end
  remove_boards(prefix, held)
  for _, key in ipairs(keys_of(built, places)) do
    redis.call('PERSIST', key)
    redis.call('RENAME', key, prefix .. key:sub(#built + 1))
  end
  set_aging(dojo)
  owe_derived('dojo_stats:' .. dojo, INTERACTIVE)
end

-- One moment for each name: the newest answer knows best.
local function set_change(name, moment)
  if moment then
    redis.call('ZADD', CHANGES, digits(moment), name)
  else
    redis.call('ZREM', CHANGES, name)
  end
end

-- What an operator asks for: when it was last answered, what that took, and the event it was for.
local function remember(name, took, own)
  local _, _, event = (redis.call('HGET', RUNS, name) or ''):find('^%d+|%d+|(.*)$')
  if own then event = own.entry .. '|' .. own.type end
  redis.call('HSET', RUNS, name, request.token .. '|' .. digits(took) .. '|' .. (event or '|'))
end

local function apply(dojo_boards, name, held)
  if dojo_boards.stand then stand(unpack(dojo_boards.stand, 1, 7)) end
  cause = nil -- what follows is for no event: its standing has owed all of it, and sooner
  if dojo_boards.install then install(name, held, unpack(dojo_boards.install)) end
  if dojo_boards.gone then
    remove_boards(BOARDS .. dojo_boards.gone, held)
    set_aging(dojo_boards.gone)
    owe_derived('crews:' .. dojo_boards.gone, EXPORT)
  end
end

-- It was marked meanwhile: due again at once, or when it has rested.
local function keep(name, full, rest)
  redis.call('HDEL', MARK .. name, 'attempts', 'retry_at', 'error', 'since', 'entry', 'type')
  if token > tonumber(full or 0) then redis.call('HDEL', MARK .. name, 'full') end
  fold(name)
  -- However urgent it was, this was an answer: what rests is no longer waited for.
  if rest then set_class(name, EXPORT) end
  give_back(name, rest_after(name, rest))
end

local function settle(name, holdings, values, marks, covered, boards, took, rest, changes)
  if redis.call('HGET', LEASES, name) ~= request.lease or clock.epoch ~= request.epoch then
    return 'lost', 0
  end
  if newest - token > request.oldest then return 'late', 0 end
  local held = redis.call('HGET', HOLDINGS, name) or '[]'
  local own = cause
  local unchanged = write(name, values)
  keep_books(name, held, holdings)
  set_marks(marks)
  cover(covered)
  if boards then apply(boards, name, held) end
  set_change(name, changes)
  if holdings == '[]' then rest = nil else remember(name, took, own) end
  local marked, full = unpack(redis.call('HMGET', MARK .. name, 'marked', 'full'))
  if token > tonumber(marked or 0) then
    rest_after(name, rest)
    forget(name)
    return 'settled', unchanged
  end
  keep(name, full, rest)
  return 'again', unchanged
end

local reply, is_late = {}, false
for _, answer in ipairs(request.answers) do
  local name = answer[1]
  if token > tonumber(redis.call('HGET', MARK .. name, 'marked') or 0) then fold(name) end
  local own = noted(name, '')
  cause = own
  local status, unchanged = settle(unpack(answer, 1, 9))
  local is_answer = own and (status == 'settled' or status == 'again')
  local waited = is_answer and math.max(0, math.floor(clock.seen / 1000) - own.since) or -1
  is_late = is_late or status == 'late'
  reply[#reply + 1] = status
  reply[#reply + 1] = waited
  reply[#reply + 1] = unchanged
end
cause = nil
return {reply, request.next and not is_late and lease_due(request.next) or {}}
