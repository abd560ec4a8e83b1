-- Write values with their stamps and remove the marks they answer, in one step.
--
-- A value is refused when its lease is no longer this worker's (another one answers), when the
-- clock was lost since, or when its token is too old. It is not written over a newer stamp.
-- A mark goes only when the token is newer than it; else it is due again at once.
--
-- request: token, epoch, lease, oldest (microseconds a token may be old), answers: arrays of
--          name, holdings (JSON array of keys), values (arrays of key, value), marks (arrays
--          of name, class, delay), covered (ids of solves)
-- reply: for each answer 'settled', 'again' (written; marked meanwhile), 'late' (refused;
--        still leased) or 'lost' (refused; the debt is no longer this worker's)

local newest = tick()
local token = tonumber(request.token)
local stamp = string.format('%d.%06d', math.floor(token / 1000000), token % 1000000)

-- A stamp from after this moment is nobody's: no token was given out for it.
local function older(key)
  local stored = tonumber(stamp_of(key))
  return not (stored and stored >= tonumber(stamp) and stored <= newest / 1000000)
end

local function write(name, values)
  for _, pair in ipairs(values) do
    local key, value = pair[1], pair[2]
    if older(key) then
      redis.call('SET', key, value)
      redis.call('SET', key .. ':updated', stamp)
      redis.call('HSET', OWNERS, key, name)
    end
  end
end

-- The keys of a refresh are those it wrote last: what it no longer writes goes, unless another
-- refresh (a dojo that took over a reference id) has written it since.
local function keep_books(name, holdings)
  local before = redis.call('HGET', HOLDINGS, name) or '[]'
  if before == holdings then return end
  local now = {}
  for _, key in ipairs(cjson.decode(holdings)) do now[key] = true end
  for _, key in ipairs(cjson.decode(before)) do
    if not now[key] and redis.call('HGET', OWNERS, key) == name then
      if older(key) then redis.call('DEL', key, key .. ':updated') end
      redis.call('HDEL', OWNERS, key)
    end
  end
  if holdings == '[]' then
    redis.call('HDEL', HOLDINGS, name)
  else
    redis.call('HSET', HOLDINGS, name, holdings)
  end
end

local function settle(name, holdings, values, marks, covered)
  if redis.call('HGET', LEASES, name) ~= request.lease or clock.epoch ~= request.epoch then
    return 'lost'
  end
  if newest - token > request.oldest then return 'late' end
  write(name, values)
  keep_books(name, holdings)
  set_marks(marks)
  cover(covered)
  local marked = tonumber(redis.call('HGET', MARK .. name, 'marked') or 0)
  if token > marked then
    forget(name)
    return 'settled'
  end
  redis.call('HDEL', MARK .. name, 'attempts', 'retry_at')
  give_back(name, 0)
  return 'again'
end

local reply = {}
for i, answer in ipairs(request.answers) do
  reply[i] = settle(unpack(answer, 1, 5))
end
return reply
