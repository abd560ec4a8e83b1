-- Look up the scores of users in sorted sets of a dojo's state, and which users were written since.
--
-- request: dojo, generation, since (token), limit (of users), sets (array of the ends of keys)
-- ARGV[2..]: for each set the users, 4 bytes each
-- reply: nil where the generation was replaced or lost a key; else an array: {is_known (whether it
--        is known who was written since, and they are not too many), changed (these users)}, then
--        for each set the scores in text, with spaces between them; `nan` for none
--
-- include boards/state

local AT_ONCE = 200

if current_generation(request.dojo) ~= request.generation then return nil end
local prefix = prefix_of(request.dojo, request.generation)
if not (is_a(prefix, 'hash') and is_a(prefix .. ':log', 'zset')) then return nil end

local found = {}
for i, name in ipairs(request.sets) do
  local key, members, parts = prefix .. ':' .. name, ARGV[i + 1], {}
  if not is_a(key, 'zset') then return nil end
  for first = 1, #members, AT_ONCE * 4 do
    local number = math.min(AT_ONCE, (#members - first + 1) / 4)
    local users = {struct.unpack('<' .. ('I4'):rep(number), members, first)}
    users[number + 1] = nil -- the position behind them
    local scores = redis.call('ZMSCORE', key, unpack(users))
    for at = 1, number do scores[at] = scores[at] or 'nan' end
    parts[#parts + 1] = table.concat(scores, ' ')
  end
  found[i] = table.concat(parts, ' ')
end

local is_known, changed = false, {}
if tonumber(redis.call('HGET', prefix, 'log_from') or LARGEST) <= request.since then
  changed = redis.call('ZRANGEBYSCORE', prefix .. ':log', '(' .. digits(request.since), '+inf',
    'LIMIT', 0, request.limit + 1)
  is_known = #changed <= request.limit
end
return {reply({is_known = is_known, changed = changed}), unpack(found)}
