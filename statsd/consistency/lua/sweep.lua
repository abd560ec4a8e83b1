-- Enqueue the jobs of which a key is missing: somebody deleted it, or Redis evicted it.
--
-- request: cursor, count (about how many jobs are examined)
-- reply: cursor (of the next call; 0: that was the last page), missing (how many were enqueued)
--
-- include jobs/hooks

next_token()
local PAGE = 1000 -- keys in one command

-- The keys that no reader can read: missing ones, and those of another type.
local function missing_in(key_index)
  local missing = {}
  for first = 1, #key_index, PAGE do
    local as_ofs = {}
    for i = first, math.min(first + PAGE - 1, #key_index) do
      as_ofs[#as_ofs + 1] = key_index[i] .. AS_OF
    end
    for i, found in ipairs(#as_ofs > 0 and redis.call('MGET', unpack(as_ofs)) or {}) do
      local key = key_index[first + i - 1]
      if not found or redis.call('TYPE', key).ok ~= 'string' then missing[#missing + 1] = key end
    end
  end
  return missing
end

local page = redis.call('HSCAN', KEY_INDEX, request.cursor, 'COUNT', request.count)
local found, incomplete = page[2], 0
for i = 1, #found, 2 do
  local name = found[i]
  local is_whole, missing = hooks.is_whole(name), missing_in(cjson.decode(found[i + 1]))
  if not is_whole or #missing > 0 then
    incomplete = incomplete + 1
    if not (is_whole and hooks.repair(name, missing)) then
      redis.call('HDEL', COOLDOWNS, name) -- a cooldown is no reason for a gap
      enqueue(name, ORDINARY)
    end
  end
end
return reply({cursor = page[1], missing = incomplete})
