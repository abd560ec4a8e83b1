-- The keys of a job that no reader can read.
--
-- include jobs/clock

local AT_ONCE = 1000 -- keys in one command

-- Those among some keys that are missing, or of another type, or have no as-of.
local function missing_in(key_index)
  local missing = {}
  for first = 1, #key_index, AT_ONCE do
    local as_ofs = {}
    for i = first, math.min(first + AT_ONCE - 1, #key_index) do
      as_ofs[#as_ofs + 1] = key_index[i] .. AS_OF
    end
    for i, found in ipairs(#as_ofs > 0 and redis.call('MGET', unpack(as_ofs)) or {}) do
      local key = key_index[first + i - 1]
      if not found or redis.call('TYPE', key).ok ~= 'string' then missing[#missing + 1] = key end
    end
  end
  return missing
end
