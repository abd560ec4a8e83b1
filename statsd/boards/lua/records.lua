-- Read the records of some users of a dojo. Where it has only few users, all are read at once.
--
-- request: dojo, first, last (ids of users), few (users)
-- reply: nil where the state is missing; else an array: {generation, token (of this moment), modules,
--        last (the last id that was looked up; nil: all records were read)}, then strings: the users
--        (4 bytes each), the sizes of their records (4 each), and the records
--
-- include boards/state

local MOST_IDS, IDS, USERS, BYTES = 10000, 500, 1000, 500000

next_token()
local state = open(request.dojo)
if not state then return nil end
local key, last = state.prefix .. ':users', nil
local users, sizes, records, bytes = {}, {}, {}, 0
local function add(user, record)
  users[#users + 1] = struct.pack('<I4', user)
  sizes[#sizes + 1] = struct.pack('<I4', #record)
  records[#records + 1] = record
  bytes = bytes + #record
end

if redis.call('HLEN', key) - 1 <= request.few then
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    if tonumber(all[i]) then add(tonumber(all[i]), all[i + 1]) end
  end
else
  last = request.first - 1
  local final = math.min(request.last, last + MOST_IDS)
  while last < final and #users < USERS and bytes < BYTES do
    local ids, first = {}, last + 1
    last = math.min(final, last + IDS)
    for id = first, last do ids[#ids + 1] = digits(id) end
    for i, record in ipairs(redis.call('HMGET', key, unpack(ids))) do
      if record then add(first + i - 1, record) end
    end
  end
end
local read = {generation = state.generation, token = clock.token, modules = state.modules, last = last}
return {reply(read), table.concat(users), table.concat(sizes), table.concat(records)}
