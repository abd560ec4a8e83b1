-- Read what arrays of a dojo are made from, at one moment. Strings are only copied, so that this
-- takes little time however long the boards are.
--
-- request: dojo, generation, scopes (array: their items are read), has_boards (whether boards are
--          made from them), challenges (array of modules), since (token), limit (of users)
-- reply: nil where the generation was replaced, or where more users with a tag than the limit changed
--        since then. An empty string where the state lost a key. Else an array: a map, then strings.
--   map      token; changed (users whose records were written since); challenges (for each module a
--            flat array of challenges and solves)
--   strings  items, and, with has_boards, the records of the changed users, the last first. The record
--            is empty where the name has no tag.
--
-- include boards/state

next_token()
if current_generation(request.dojo) ~= request.generation then return nil end
local state = open_generation(request.dojo, request.generation)
if not state then return nil end

local LOST = {''}
local MOST_CHANGED = 5000

local strings = {}
for i, scope in ipairs(request.scopes) do
  if not has_keys_of(state, scope) then return LOST end
  strings[i] = redis.call('GET', items_of(state.prefix, scope))
end
local challenges = {}
for i, module in ipairs(request.challenges) do
  if not has_keys_of(state, module) then return LOST end
  challenges[i] = redis.call('HGETALL', state.prefix .. ':' .. module .. ':challenges')
end

local changed, tagged = {}, 0
if request.has_boards then
  if state.log_from > request.since then return nil end
  changed = redis.call('ZRANGEBYSCORE', state.prefix .. ':log', '(' .. digits(request.since), '+inf',
    'LIMIT', 0, MOST_CHANGED)
  if #changed == MOST_CHANGED then return nil end
end
for i = #changed, 1, -1 do
  local is_tagged = redis.call('HEXISTS', state.prefix .. ':tagged', changed[i]) == 1
  tagged = tagged + (is_tagged and 1 or 0)
  if tagged > request.limit then return nil end
  strings[#strings + 1] = is_tagged and redis.call('HGET', state.prefix .. ':users', changed[i]) or ''
end
return {reply({token = clock.token, changed = changed, challenges = challenges}), unpack(strings)}
