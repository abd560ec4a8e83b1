-- Read the crews on a board: the array or, where arrays are left out, what crews are made from.
--
-- request: dojo, scope, days, key (of the array), generation and since (of the reply before; '' and 0
--          at first), users (nil; or array: read only their records, in that generation)
-- reply: nil where it is missing; else an array: a map, then strings
--   the array: the map has is_array; the string is JSON
--   records of `users`: the map is empty; the strings are records, nil where there is none
--   otherwise: generation; since (the newest write to it); wanted (the tagged users on the board whose
--     records were written since). If these are too many, the caller reads their records with `users`,
--     and asks again. Else the strings are their records, and there are also members (array of {rank
--     (from 0), user, score (text), text (JSON of name and e-mail address)}) and now (the moment in
--     microseconds that the state is true for).
--
-- include boards/state

local MOST = 300 -- records in one reply

if request.users then
  local users = prefix_of(request.dojo, request.generation) .. ':users'
  return {reply({}), unpack(redis.call('HMGET', users, unpack(request.users)))}
end
if has_exports() then
  local array = redis.call('GET', request.key)
  return array and {reply({is_array = true}), array}
end

local state = readable(request.dojo)
if not state then return nil end
local prefix = state.prefix
local key, tagged, log = board(prefix, request.scope, request.days), prefix .. ':tagged', prefix .. ':log'
if not (is_a(key, 'zset') and is_a(tagged, 'hash') and is_a(log, 'zset')) then return nil end

local users, ranks = {}, {}
for _, user in ipairs(redis.call('HKEYS', tagged)) do
  local rank = user ~= SENTINEL and redis.call('ZREVRANK', key, user)
  if rank then
    users[#users + 1] = user
    ranks[user] = rank
  end
end

local log_from = tonumber(redis.call('HGET', prefix, 'log_from'))
local wanted = {}
if request.generation == state.generation and log_from <= request.since then
  for _, user in ipairs(redis.call('ZRANGEBYSCORE', log, '(' .. digits(request.since), '+inf')) do
    if ranks[user] then wanted[#wanted + 1] = user end
  end
else
  wanted = users
end
local newest = tonumber(redis.call('ZREVRANGE', log, 0, 0, 'WITHSCORES')[2])
local fields = {generation = state.generation, since = math.max(newest, log_from), wanted = wanted}
if #wanted > MOST then return {reply(fields)} end

fields.members, fields.now = {}, tonumber(redis.call('HGET', CLOCK, 'last'))
for first = 1, #users, MOST do
  local some = {unpack(users, first, math.min(#users, first + MOST - 1))}
  local scores = redis.call('ZMSCORE', key, unpack(some))
  for i, stored in ipairs(redis.call('HMGET', NAMES, unpack(some))) do
    local text = text_in(stored)
    if not text then return nil end
    fields.members[#fields.members + 1] =
      {rank = ranks[some[i]], user = some[i], score = scores[i], text = text}
  end
end
if #wanted == 0 then return {reply(fields)} end
return {reply(fields), unpack(redis.call('HMGET', prefix .. ':users', unpack(wanted)))}
