-- Write a part of a new generation.
--
-- request: zsets (array of {key, flat array of scores and members}), hashes (array of {key, flat
--          array of fields and values}), records (nil, or {key, users, sizes}: the records of
--          these users follow each other in ARGV[2])
--
-- include jobs/queue

local MOST = 4000 -- arguments of one command
local function write(command, key, pairs)
  for first = 1, #pairs, MOST do
    redis.call(command, key, unpack(pairs, first, math.min(#pairs, first + MOST - 1)))
  end
end

for _, each in ipairs(request.zsets) do write('ZADD', each[1], each[2]) end
for _, each in ipairs(request.hashes) do write('HSET', each[1], each[2]) end
if request.records then
  local key, users, sizes = unpack(request.records)
  local pairs, position = {}, 1
  for i, user in ipairs(users) do
    pairs[2 * i - 1] = user
    pairs[2 * i] = ARGV[2]:sub(position, position + sizes[i] - 1)
    position = position + sizes[i]
  end
  write('HSET', key, pairs)
end
