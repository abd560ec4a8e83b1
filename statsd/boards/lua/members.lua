-- Read what a dojo's live boards say of some of those who have a tag.
--
-- request: dojo, users (an array; may be nil: say who they are instead)
-- reply: nothing, where the boards are not whole, or doubtful; else what tells one state of them
--        from another, and either the places and the users, or for each user its id, the JSON that
--        is kept of it, and for each place where it has entries an array of that place and the
--        ranks, from 0, in the windows (-1: no entry)

tick()

local prefix = BOARDS .. request.dojo

-- None where what is kept of the user does not agree with the boards: a module came or went.
local function ranks_of(user, places)
  local found = {}
  for place, windows in places:gmatch('([^,:]+):(%d+)') do
    local own = {place}
    for i, days in ipairs(WINDOWS) do
      local has_entry = windows:sub(i, i) == '1'
      local rank = has_entry and redis.call('ZREVRANK', board(prefix, place, days), user)
      if has_entry and not rank then return nil end
      own[i + 1] = rank or -1
    end
    found[#found + 1] = own
  end
  return found
end

local places = whole(request.dojo)
if not places or is_doubtful(request.dojo, 'crews:' .. request.dojo) then return {} end
local state = table.concat(redis.call('HMGET', prefix, 'token', 'puts'), '/')
local people = {}
if not request.users then
  for _, user in ipairs(redis.call('HKEYS', prefix .. ':crews')) do
    if user ~= SENTINEL then people[#people + 1] = user end
  end
  return {state, places, people}
end
for _, user in ipairs(request.users) do
  local kept = redis.call('HGET', prefix .. ':crews', user)
  if kept then
    local own, text = kept:match('^([^|]*)|(.*)$')
    local ranks = ranks_of(user, own)
    if not ranks then return {} end
    people[#people + 1] = {user, text, ranks}
  end
end
return {state, people}
