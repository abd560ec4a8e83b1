-- Read the names and e-mail addresses of users.
--
-- request: since (the token of the last reply), users (array; those that the caller has not)
-- reply: token, changed (users whose names changed since then; nil: all may have), people (array of
--        {user, JSON of name and e-mail address}; users without one are absent)
--
-- include boards/arrays

next_token()
local MOST = 5000
local log, changed = names_log(), nil
if request.since >= tonumber(redis.call('HGET', CLOCK, 'names_from') or LARGEST) then
  changed = redis.call('ZRANGEBYSCORE', log, '(' .. digits(request.since), '+inf')
end
local people = {}
local function read(users)
  for first = 1, #users, MOST do
    local some = {unpack(users, first, math.min(#users, first + MOST - 1))}
    for i, stored in ipairs(redis.call('HMGET', NAMES, unpack(some))) do
      local text = stored and stored:match('|(.+)$')
      if text then people[#people + 1] = {some[i], text} end
    end
  end
end
read(request.users)
if changed then read(changed) end
return reply({token = clock.token, changed = changed, people = people})
