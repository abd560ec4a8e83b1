-- The clock of the queue.
--
-- All times are microseconds. There are two of them:
--   token  orders answers: max(last + 1, TIME). It is unique and never goes back.
--   now    orders due times: TIME, plus every step that the server's clock was set back. A lease
--          or a delay therefore keeps its length when that clock is set.
--
-- include keys

local LONGEST_COMMIT = 3000000 -- how long a commit may be under way
local LARGEST = 9007199254740992 -- the largest integer that a double holds without gaps

-- Lua's own conversion keeps 14 digits; a token has 16.
local function digits(number) return string.format('%.0f', number) end

-- The stored as-of of a value; empty where it is missing or not a string.
local function as_of(key)
  local text = redis.pcall('GET', key .. AS_OF)
  return type(text) == 'string' and text or ''
end

local enqueue -- defined in queue.lua; a new clock enqueues a reconcile

-- The newest moment in Redis when the clock key is missing. Tokens continue from it, since the
-- server's clock may have been set back.
local function newest_moment_left()
  local newest = 0
  local function consider(moment)
    moment = tonumber(moment)
    if moment and moment > newest and moment < LARGEST then newest = moment end
  end
  for _, key in ipairs(redis.call('HKEYS', KEY_OWNERS)) do
    consider((as_of(key):gsub('%.', '')))
  end
  for class = MISSED, IDLE do
    for _, name in ipairs(redis.call('ZRANGE', DUE .. class, 0, -1)) do
      consider(redis.call('HGET', JOB .. name, 'enqueued'))
    end
  end
  return newest
end

-- The clock key is missing. The leases of its epoch end, and delayed jobs are due at once or soon.
local function end_epoch(now)
  for class = MISSED, IDLE do
    for _, name in ipairs(redis.call('ZRANGE', DUE .. class, 0, -1)) do
      redis.call('HDEL', JOB .. name, 'retry_at')
      redis.call('ZADD', DUE .. class, 'LT', digits(now), name)
    end
  end
  for _, entry in ipairs(redis.call('ZRANGE', DELAYED, 0, -1)) do
    redis.call('ZADD', DELAYED, 'LT', digits(now + LONGEST_COMMIT), entry)
  end
  redis.call('DEL', LEASES, COOLDOWNS)
end

local clock -- epoch (text), token, now, time (the server's TIME)

local function read_clock()
  local seconds, microseconds = unpack(redis.call('TIME'))
  local time = seconds * 1000000 + microseconds
  local stored = redis.call('HMGET', CLOCK, 'epoch', 'last', 'seen', 'offset')
  local offset = tonumber(stored[4] or 0) + math.max(0, tonumber(stored[3] or 0) - time)
  local last = tonumber(stored[2] or 0)
  if not stored[1] then
    last = math.max(last, newest_moment_left())
    end_epoch(time + offset)
  end
  clock = {
    epoch = stored[1] or digits(time),
    token = math.max(last + 1, time),
    now = time + offset,
    time = time,
  }
  redis.call('HSET', CLOCK, 'epoch', clock.epoch, 'last', digits(clock.token),
    'seen', digits(time), 'offset', digits(offset))
  if not stored[1] then enqueue(AFTER_LOSS, INTERACTIVE) end
end

-- Return a token that is newer than every token so far. Each script that enqueues, leases or
-- completes begins with one.
local function next_token()
  if clock then
    clock.token = clock.token + 1
    redis.call('HSET', CLOCK, 'last', digits(clock.token))
  else
    read_clock()
  end
  return clock.token
end
