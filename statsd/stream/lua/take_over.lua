-- Take over pending entries of other consumers that have been idle for a while, and remove dead
-- consumers. Both happen in one step, so that no consumer with pending entries is removed.
--
-- KEYS[1] the stream
-- request: group, consumer, idle (milliseconds that an entry must have been pending), cursor,
--          count, gone (milliseconds after which a silent consumer without pending entries is
--          removed), kept (ids of entries that this consumer handles or has postponed)
-- reply: cursor (of the next call), taken (how many entries came from others), deleted (how many
--        entries were no longer in the stream), removed (names of the consumers)
--
-- include jobs/queue

-- XINFO reports a missing stream with another error than a missing group.
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

local function own_pending()
  local own = consumers()[request.consumer]
  return own and own.pending or 0
end

-- Use XCLAIM on the kept entries, so that they are not idle. Otherwise an entry that delays its
-- reader would move from daemon to daemon and delay all of them. An entry that is no longer in the
-- stream is left out, since XCLAIM would drop it from the pending entries.
for _, id in ipairs(request.kept) do
  if #redis.call('XRANGE', KEYS[1], id, id) > 0 then
    redis.call('XCLAIM', KEYS[1], request.group, request.consumer, 0, id, 'JUSTID')
  end
end

-- XAUTOCLAIM also claims idle entries that are this consumer's already; only the others count.
local before = own_pending()
local claimed = redis.call('XAUTOCLAIM', KEYS[1], request.group, request.consumer,
  request.idle, request.cursor, 'COUNT', request.count, 'JUSTID')
local taken = math.max(0, own_pending() - before)

local removed = {}
for name, consumer in pairs(consumers()) do
  if consumer.pending == 0 and consumer.idle > request.gone and name ~= request.consumer then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], request.group, name)
    removed[#removed + 1] = name
  end
end
return reply({
  cursor = claimed[1],
  taken = taken,
  deleted = claimed[3] and #claimed[3] or 0,
  removed = removed,
})
