-- The challenges that each user has solved in the last year, so that the activity of one user is
-- looked up by challenge. No index of the solves has the user first.
--
-- The hash KNOWN_SOLVES has for each user a MessagePack array: the as-of of the user's activity, and
-- the array of challenges. They are written in one step, so a value that another version wrote, or
-- that is gone, leaves challenges that are not used.
--
-- include boards/state

-- `challenges` is nil for a user who is gone.
local function remember_solves(user, challenges)
  if not is_a(KNOWN_SOLVES, 'hash') then redis.call('DEL', KNOWN_SOLVES) end
  if challenges then
    local record = cmsgpack.pack({as_of(ACTIVITY_KEYS .. user), challenges})
    redis.call('HSET', KNOWN_SOLVES, user, record)
  else
    redis.call('HDEL', KNOWN_SOLVES, user)
  end
end

-- The challenges; nil where they are not known.
local function known_solves(user)
  local stored = redis.pcall('HGET', KNOWN_SOLVES, user)
  if type(stored) ~= 'string' then return nil end
  local is_read, found = pcall(cmsgpack.unpack, stored)
  if not is_read or type(found) ~= 'table' then return nil end
  return found[1] ~= '' and found[1] == as_of(ACTIVITY_KEYS .. user) and found[2] or nil
end
