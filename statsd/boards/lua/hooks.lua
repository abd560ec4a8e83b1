-- The hooks of the boards in the scripts of the queue. When a job completes, a dojo's state moves,
-- and the follow-ups of the job are enqueued.
--
-- An answer (of the script `complete`) has at most one of:
--   user_entries  {dojo, user, name (digest), entries (flat array), changed (array of challenges: the
--                 entries are only theirs; or nil), tagged, person (JSON of name and e-mail address;
--                 '' where they are not shown)}: what one user has in the dojo
--   exported      {dojo, generation, arrays (array of {name, token})}: arrays made from the state
--   doubt         {dojo}: the dojo itself differs from what its state was built from
--   members       {dojo, prefix (of the generation), place (the key with its memberships, which is
--                 renamed)}
--   ask           {dojo}: a reader, or an operator, misses arrays of the dojo
--   no_dojo       {dojo}: the dojo does not exist
--   known_solves  array of challenges: those whose solves are in the activity of a user
--
-- include jobs/hooks
-- include jobs/missing
-- include boards/state
-- include boards/totals
-- include boards/arrays
-- include boards/known_solves
-- include boards/follow_ups

-- Enqueue each follow-up once, and again only for a more urgent class or an older event.
local followed = {}

-- Enqueue the follow-ups of an occasion (see FOLLOW_UPS) for a dojo, or a dojo and a user. They are
-- derived from an answer, unless `derived` is false.
local function follow(occasion, dojo, derived, user)
  for _, job in ipairs(FOLLOW_UPS[occasion]) do
    local name = job.kind .. ':' .. dojo .. (user and ':' .. user or '')
    local id = name .. (derived == false and '!' or '')
    local before = followed[id]
    local since = provenance and provenance.since or LARGEST
    if not before or before.class > job.class or before.since > since then
      enqueue(name, job.class, derived ~= false)
      followed[id] = {class = job.class, since = since}
    end
  end
end

-- The state of each dojo is opened once for all answers of a step.
local states = {}
local function state_of(dojo)
  if states[dojo] == nil then states[dojo] = open(dojo) or false end
  return states[dojo]
end

local function doubt(dojo, occasion)
  redis.call('HSET', DOUBTS, dojo, digits(clock.token))
  follow(occasion, dojo)
end

do -- further names are of this file alone: Lua limits a script to 200 local names

local USERS = 50 -- users handled at once of whom a solve has left a window

-- A key of the state is missing: what is left of it goes, and a whole pass is enqueued.
local function discard(dojo)
  local generation = current_generation(dojo)
  redis.call('DEL', BOARDS .. dojo)
  if generation then remove_generation(dojo, generation) end
  states[dojo] = false
  doubt(dojo, 'state_missing')
end

-- Whether a dojo's boards may now change by themselves at another moment than is noted.
local function has_other_expiry(dojo, done)
  local noted = tonumber(redis.call('ZSCORE', BOARD_CHANGES, dojo) or LARGEST)
  return (done.left and done.left <= noted) or (done.leaving and done.leaving < noted)
end

local put_before = {} -- users whose name was stored in this step
local function put_user_entries(new)
  local dojo, user = new.dojo, new.user
  local state = state_of(dojo)
  if not put_before[user] then put_person(user, new.person, request.token) end
  put_before[user] = true
  -- A state that is being built may come from a snapshot before these entries.
  if not state then return doubt(dojo, 'state_missing') end
  if request.token <= tonumber(state.generation) then return end -- built from a later snapshot
  new.token = request.token
  local done = put(state, user, new)
  if not done then return discard(dojo) end
  if done.lacks then doubt(dojo, 'module_missing') end
  -- More than the solves of these challenges has changed for a user with another name, or without
  -- one any more. A whole pass may have found what is wrong in the entries of other challenges.
  if new.changed and (done.has_new_name or redis.call('HEXISTS', LEASES, BOARDS_KIND .. dojo) == 1) then
    follow('written_in_part', dojo, false, user)
  end
  if has_other_expiry(dojo, done) then set_next_expiry(dojo) end
  if done.arrays > 0 then follow('arrays_changed', dojo) end
  -- Also without a change: the cached value may be from a snapshot in between.
  follow('entries_written', dojo)
end

-- Arrays that changed again since they were read stay marked.
local function clear_marks(exported)
  local key = prefix_of(exported.dojo, exported.generation) .. ':dirty'
  if not is_a(key, 'zset') then
    if current_generation(exported.dojo) == exported.generation then discard(exported.dojo) end
    return
  end
  for _, array in ipairs(exported.arrays) do
    local marked = tonumber(redis.call('ZSCORE', key, array[1]) or 0)
    if marked > 0 and marked <= array[2] then redis.call('ZREM', key, array[1]) end
  end
  if redis.call('ZCARD', key) > 1 then follow('arrays_left', exported.dojo) end
end

-- Mark arrays by their keys, and have them made.
local function want(state, wanted)
  local arrays, has = {}, {}
  for _, key in ipairs(wanted) do
    local array = array_of(key)
    local scope = array:match('^.:([^:]+)')
    -- The key index has modules that are gone until the arrays of a whole pass are written.
    if not has[array] and (scope == 'dojo' or has_module(state, scope)) then
      has[array] = true
      arrays[#arrays + 1] = array
    end
  end
  if mark(state, arrays) > 0 then follow('arrays_changed', state.dojo) end
end

-- `asker` is the name of a job. Readers ask for arrays that are left out where they cannot read the
-- state.
local function want_missing(dojo, asker)
  local state = whole(dojo)
  local is_left_out = not has_exports() and (asker:match('^scoreboard:') or asker:match('^crews:'))
  local key_index = redis.call('HGET', KEY_INDEX, BOARDS_KIND .. dojo)
  if not state or not key_index or is_left_out then return follow('arrays_asked_for', dojo) end
  want(state, missing_in(cjson.decode(key_index)))
end

local function remove_state(dojo)
  local generation = current_generation(dojo)
  if generation then remove_generation(dojo, generation) end
  redis.call('DEL', BOARDS .. dojo)
  redis.call('HDEL', DOUBTS, dojo)
  set_next_expiry(dojo)
end

-- Memberships are stored with the jobs of the users for whom they differ.
local function set_members(new)
  local generation = current_generation(new.dojo)
  if generation and prefix_of(new.dojo, generation) == new.prefix
    and redis.call('EXISTS', new.place) == 1 then
    redis.call('RENAME', new.place, new.prefix .. ':members')
    redis.call('PERSIST', new.prefix .. ':members')
  end
end

function hooks.completed(name, answer)
  if answer.user_entries then put_user_entries(answer.user_entries) end
  if answer.exported then clear_marks(answer.exported) end
  if answer.doubt then doubt(answer.doubt.dojo, 'dojo_changed') end
  if answer.members then set_members(answer.members) end
  if answer.ask then want_missing(answer.ask.dojo, name) end
  if answer.no_dojo then remove_state(answer.no_dojo.dojo) end
  local user = name:match('^activity:(.*)$')
  if user then remember_solves(user, answer.known_solves) end
end

-- Arrays of a generation that was replaced are wrong where the dojo changed.
function hooks.may_write(answer)
  return not answer.exported or current_generation(answer.exported.dojo) == answer.exported.generation
end

function hooks.leaves_out(key) return not has_exports() and is_of_board(key) end

function hooks.kept_keys(key_index)
  if has_exports() or not has_boards(key_index) then return key_index end
  return without_boards(key_index)
end

-- An array of a new generation did not replace a newer one, which comes from the generation before.
function hooks.refused(name, keys)
  local dojo = name:match('^' .. BOARDS_KIND .. '(.*)$')
  local state = dojo and state_of(dojo)
  if state then want(state, keys) end
end

-- When a whole pass fails for good, the state is wrong and is removed. When user entries fail for
-- good, a whole pass is enqueued.
function hooks.buried(name)
  local kind, dojo = name:match('^([^:]+):([^:]+)')
  if kind == 'boards' then remove_state(dojo) end
  if kind == 'user_entries' then doubt(dojo, 'user_entries_buried') end
end

-- Move the boards of the users of which a solve has left a window.
function hooks.time_passed()
  local token, left = digits(clock.token), USERS
  for _, dojo in ipairs(redis.call('ZRANGEBYSCORE', BOARD_CHANGES, '-inf', token, 'LIMIT', 0, USERS)) do
    local state = state_of(dojo)
    if state and left > 0 then
      local arrays = 0
      local users = redis.call('ZRANGEBYSCORE', state.prefix .. ':until', '-inf', token, 'LIMIT', 0, left)
      left = left - #users
      for _, user in ipairs(users) do
        -- A record that cannot be read does not prevent the lease of the job that mends it.
        local is_read, done = pcall(put_again, state, user)
        if not (is_read and done) then
          discard(dojo)
          break
        end
        arrays = arrays + done.arrays
      end
      if arrays > 0 then follow('arrays_changed', dojo) end
    end
    if left > 0 then set_next_expiry(dojo) end
  end
  return left == 0
end

-- The totals of each dojo whose statistics were leased, and the known solves of each user of whose
-- activity only some challenges have changed; nil for jobs of other kinds. A state that cannot be
-- read does not prevent the lease.
function hooks.prefetch(names, changed)
  local found = nil
  for i, name in ipairs(names) do
    local kind, id = name:match('^([^:]+):([^:]+)$')
    if kind == 'dojo_stats' then
      local is_read, totals = pcall(totals_of, id)
      found = found or {}
      found[i] = is_read and totals or false
    elseif kind == 'activity' then
      found = found or {}
      found[i] = changed[name] and known_solves(id) or false
    else
      return nil
    end
  end
  return found
end

-- Boards have a state beside their values, which is complete or missing.
function hooks.is_whole(name)
  local dojo = name:match('^' .. BOARDS_KIND .. '(.*)$')
  if not dojo then return true end
  names_log() -- names that are lost are noticed here
  local state = whole(dojo)
  -- So are marked arrays whose job was lost or buried.
  if state and redis.call('ZCARD', state.prefix .. ':dirty') > 1
    and redis.call('EXISTS', JOB .. 'exports:' .. dojo) == 0 then
    follow('arrays_left', dojo)
  end
  return state ~= nil
end

-- Keys of boards that are missing are made from the state.
function hooks.repair(name, missing)
  local dojo = name:match('^' .. BOARDS_KIND .. '(.*)$')
  local state = dojo and state_of(dojo)
  if not state then return false end
  want(state, missing)
  return true
end

end
