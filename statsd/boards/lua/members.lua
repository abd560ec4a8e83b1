-- Read the crew members of a dojo, which are its users with a tag, from its live boards.
--
-- request: dojo, users (array; nil: list the users)
-- reply: nil where the boards are missing or doubtful; else version (it changes with every write to
--        the boards), and
--          without `users`: scopes, users (with a tag)
--          with `users`: members: array of {user, text (JSON), ranks (array
--            of {scope, and its ranks, from 0, in the windows; -1: no entry})}
--
-- include boards/state

next_token()

local prefix = BOARDS .. request.dojo

-- nil where the stored windows differ from the boards: a module was added or removed.
local function ranks_of(user, windows_of_scopes)
  local found = {}
  for scope, windows in windows_of_scopes:gmatch('([^,:]+):(%d+)') do
    local own = {scope}
    for i, days in ipairs(WINDOWS) do
      local has_entry = windows:sub(i, i) == '1'
      local rank = has_entry and redis.call('ZREVRANK', board(prefix, scope, days), user)
      if has_entry and not rank then return nil end
      own[i + 1] = rank or -1
    end
    found[#found + 1] = own
  end
  return found
end

local scopes = whole(request.dojo)
if not scopes or is_doubtful(request.dojo, 'crews:' .. request.dojo) then return nil end
local version = table.concat(redis.call('HMGET', prefix, 'token', 'puts'), '/')
if not request.users then
  local users = {}
  for _, user in ipairs(redis.call('HKEYS', prefix .. ':crews')) do
    if user ~= SENTINEL then users[#users + 1] = user end
  end
  return reply({version = version, scopes = scopes, users = users})
end
local members = {}
for _, user in ipairs(request.users) do
  local kept = redis.call('HGET', prefix .. ':crews', user)
  if kept then
    local windows_of_scopes, text = kept:match('^([^|]*)|(.*)$')
    local ranks = ranks_of(user, windows_of_scopes)
    if not ranks then return nil end
    members[#members + 1] = {user = user, text = text, ranks = ranks}
  end
end
return reply({version = version, members = members})
