-- The hooks of the live boards in the scripts of the queue. When a job completes, its user entries
-- or new boards are written, and its follow-ups are enqueued.
--
-- An answer (of the script `complete`) has at most one of:
--   user_entries  {dojo, user, day, scores, record, crew, leaving}: the entries of one user, as
--                 `entries_of` returns them, and the day of the record's chart
--   new_boards    {dojo, prefix}: the prefix of the uploaded boards of a dojo
--   no_boards     {dojo}: the dojo does not exist
--
-- include jobs/hooks
-- include boards/state
-- include boards/totals
-- include boards/follow_ups

local DOJOS = 20      -- dojos handled at once whose boards change by time
local USERS = 1000    -- users of a dojo handled at once

-- Enqueue each follow-up once, and again only for a more urgent class or an older event.
local followed = {}

-- Enqueue the follow-ups of an occasion (see FOLLOW_UPS) for a dojo, or for one of its users.
local function follow(occasion, dojo, user)
  for _, job in ipairs(FOLLOW_UPS[occasion]) do
    local name = job.kind .. ':' .. dojo .. (user and ':' .. user or '')
    local before = followed[name .. '|' .. tostring(job.derived)]
    local since = provenance and provenance.since or LARGEST
    if not before or before.class > job.class or before.since > since then
      enqueue(name, job.class, job.derived)
      followed[name .. '|' .. tostring(job.derived)] = {class = job.class, since = since}
    end
  end
end

-- The state of each dojo's boards is read once for all answers of a step.
local boards_of_dojo = {}
local function boards_of(dojo)
  if boards_of_dojo[dojo] then return boards_of_dojo[dojo] end
  local prefix = BOARDS .. dojo
  local boards = {prefix = prefix, scopes = whole(dojo), known = {}}
  if boards.scopes then
    for _, scope in ipairs(boards.scopes) do boards.known[scope] = true end
    local built, day = unpack(redis.call('HMGET', prefix, 'token', 'day'))
    boards.built, boards.day = tonumber(built), day
  end
  boards_of_dojo[dojo] = boards
  return boards
end

-- Write the entries of one user, as of the token, to the boards. Boards that were built from a
-- later snapshot have newer entries.
local function put_user_entries(new)
  local dojo, user = new.dojo, new.user
  local record = new.record or false -- as HGET gives a missing one
  local boards = boards_of(dojo)
  if not boards.scopes then return follow('entries_without_boards', dojo) end
  if request.token <= boards.built then return end
  for scope in pairs(new.scores) do
    if not boards.known[scope] then follow('entries_in_new_module', dojo) end
  end
  if boards.day ~= new.day then
    -- The chart totals keep the old day; the record is still needed for the user's name.
    record = redis.call('HGET', boards.prefix .. ':users', user)
      or record and record:gsub('%d+', '0', CHART_SIZE)
    follow('entries_of_new_day', dojo)
  end
  redis.call('ZADD', boards.prefix .. ':touched', digits(request.token), user)
  if new.crew or has_crews(dojo, boards.prefix) then follow('entries_beside_crews', dojo) end
  local changed = put(boards.prefix, boards.scopes, user, new.scores, record, new.crew, new.leaving)
  set_next_expiry(dojo)
  if changed then follow('entries_changed', dojo) end
  -- Also without a change: the cached value may be from a snapshot in between.
  follow('entries_written', dojo)
end

-- Copy the entries that are newer than the new boards from the old boards to the new ones. Entries
-- that the old boards lack, after a new module or a new day, are computed again.
local function carry_over(dojo, prefix, before, built, scopes)
  local known = {}
  for _, scope in ipairs(before) do known[scope] = true end
  local same_day = redis.call('HGET', prefix, 'day') == redis.call('HGET', built, 'day')
  local newer = redis.call('ZRANGEBYSCORE', prefix .. ':touched', '(' .. digits(request.token), '+inf')
  for _, user in ipairs(newer) do
    local scores, record, crew, leaving = entries_of(prefix, before, user)
    local built_scores, built_record = entries_of(built, scopes, user)
    local is_incomplete = not same_day
    if not same_day then record = built_record end
    for _, scope in ipairs(scopes) do
      if not known[scope] then
        scores[scope] = built_scores[scope]
        is_incomplete = true
      end
    end
    if is_incomplete then follow('boards_with_incomplete_entries', dojo, user) end
    -- The exported arrays come from the same pass as the new boards and lack the change.
    if put(built, scopes, user, scores, record, crew, leaving) then
      follow('boards_newer_than_arrays', dojo)
    end
  end
end

-- Replace the old boards by the new ones.
local function install(name, new, key_index)
  local dojo, built = new.dojo, new.prefix
  local prefix = BOARDS .. dojo
  local scopes = intact(built)
  if not scopes then return follow('boards_evicted', dojo) end
  local before = intact(prefix)
  if before then carry_over(dojo, prefix, before, built, scopes) end
  local has_touched = before and is_a(prefix .. ':touched', 'zset')
  if not has_touched and request.token < tonumber(redis.call('HGET', JOB .. name, 'enqueued') or 0) then
    follow('boards_without_touched', dojo) -- entries written meanwhile are lost without a trace
  end
  local same_scopes = before and table.concat(before, ',') == table.concat(scopes, ',')
  if not same_scopes or has_crews(dojo, prefix) or has_crews(dojo, built) then
    follow('boards_beside_crews', dojo)
  end
  remove_boards(prefix, key_index)
  for _, key in ipairs(keys_of(built, scopes)) do
    redis.call('PERSIST', key)
    redis.call('RENAME', key, prefix .. key:sub(#built + 1))
  end
  set_next_expiry(dojo)
  follow('boards_installed', dojo)
end

function hooks.completed(name, answer, key_index)
  if answer.user_entries then put_user_entries(answer.user_entries) end
  provenance = nil -- for new boards: the user entries have enqueued the follow-ups of each event
  if answer.new_boards then install(name, answer.new_boards, key_index) end
  if answer.no_boards then
    local dojo = answer.no_boards.dojo
    remove_boards(BOARDS .. dojo, key_index)
    set_next_expiry(dojo)
    follow('boards_removed', dojo)
  end
end

-- When a rebuild fails for good, the old boards are wrong and are removed. When user entries fail
-- for good, a rebuild is enqueued.
function hooks.buried(name)
  local kind, dojo = name:match('^([^:]+):([^:]+)')
  local occasion = (kind or '') .. '_buried'
  if occasion == 'scoreboard_buried' then redis.call('UNLINK', BOARDS .. dojo) end
  if FOLLOW_UPS[occasion] then follow(occasion, dojo) end
end

-- Enqueue the user entries of which a solve has left a window.
function hooks.time_passed()
  local token = digits(clock.token)
  for _, dojo in ipairs(redis.call('ZRANGEBYSCORE', BOARD_CHANGES, '-inf', token, 'LIMIT', 0, DOJOS)) do
    local key = BOARDS .. dojo .. ':until'
    if is_a(key, 'zset') then
      for _, user in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', token, 'LIMIT', 0, USERS)) do
        follow('entries_expired', dojo, user)
        redis.call('ZREM', key, user) -- the answer will set the next moment
      end
      set_next_expiry(dojo)
    else
      redis.call('ZREM', BOARD_CHANGES, dojo)
    end
  end
end

-- The totals of each dojo whose statistics were leased; nil for jobs of other kinds. Boards that
-- cannot be read do not prevent the lease.
function hooks.prefetch(names)
  local found = nil
  for i, name in ipairs(names) do
    local dojo = name:match('^dojo_stats:(.*)$')
    if not dojo then return found end
    local is_read, totals = pcall(totals_of, dojo)
    found = found or {}
    found[i] = is_read and totals or false
  end
  return found
end

-- A scoreboard has live boards beside its values, which are complete or missing.
function hooks.is_whole(name)
  local dojo = name:match('^scoreboard:(.*)$')
  return not dojo or whole(dojo) ~= nil
end
