-- Store the names and e-mail addresses of users.
--
-- request: token (of the snapshot that they are from), people (array of {user, JSON})
-- reply: life (another one where Redis has lost the names since), refused (array of the users with
--        another, newer name)
--
-- include boards/arrays

next_token()
local refused = {}
for _, each in ipairs(request.people) do
  if not put_person(each[1], each[2], request.token) then refused[#refused + 1] = each[1] end
end
names_log()
return reply({life = redis.call('HGET', NAMES, SENTINEL), refused = refused})
