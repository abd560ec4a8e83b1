-- Take over what other consumers read and did not acknowledge for a while, and dismiss consumers
-- that are gone for good; both in one step, so that nobody is dismissed who holds anything.
--
-- KEYS[1] the stream
-- request: group, consumer, idle (milliseconds an entry must have been pending), cursor, count,
--          gone (milliseconds after which a silent consumer that holds nothing is dismissed),
--          kept (ids of pending entries that this consumer has in hand, or leaves alone)
-- reply: the next cursor, how many entries were taken over from others, how many had been deleted,
--        the names of those dismissed

-- XINFO says something else of a stream that is not there than what a missing group is known by.
if redis.call('EXISTS', KEYS[1]) == 0 then return redis.error_reply('NOGROUP there is no stream') end

local function consumers()
  local found = {}
  for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], request.group)) do
    local consumer = {}
    for i = 1, #fields, 2 do consumer[fields[i]] = fields[i + 1] end
    found[consumer.name] = consumer
  end
  return found
end

local function held()
  local own = consumers()[request.consumer]
  return own and own.pending or 0
end

-- Claimed anew, they are not idle: else one that holds up whoever reads it would go from daemon to
-- daemon and hold up all of them. Claiming what is no longer in the stream would only forget it.
for _, id in ipairs(request.kept) do
  if #redis.call('XRANGE', KEYS[1], id, id) > 0 then
    redis.call('XCLAIM', KEYS[1], request.group, request.consumer, 0, id, 'JUSTID')
  end
end

-- Entries that this consumer leaves pending itself are claimed too, which is no news to it.
local before = held()
local claimed = redis.call('XAUTOCLAIM', KEYS[1], request.group, request.consumer,
  request.idle, request.cursor, 'COUNT', request.count, 'JUSTID')
local taken = math.max(0, held() - before)

local dismissed = {}
for name, consumer in pairs(consumers()) do
  if consumer.pending == 0 and consumer.idle > request.gone and name ~= request.consumer then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], request.group, name)
    dismissed[#dismissed + 1] = name
  end
end
return {claimed[1], taken, claimed[3] and #claimed[3] or 0, dismissed}
