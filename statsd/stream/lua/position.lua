-- Return the position of the group in the stream, and the moment.
--
-- KEYS[1] the stream
-- request: group
-- reply: moment (`now`); and, unless the stream or the group is missing: newest (the last
--        published entry), read (the last entry that was read), pending (the first entry that was
--        read and not acknowledged; nil: none)
--
-- include jobs/queue

next_token()
if redis.call('EXISTS', KEYS[1]) == 0 then return reply({moment = clock.now}) end

local function fields_of(found)
  local fields = {}
  for i = 1, #found, 2 do fields[found[i]] = found[i + 1] end
  return fields
end

for _, found in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = fields_of(found)
  if group.name == request.group then
    local newest = fields_of(redis.call('XINFO', 'STREAM', KEYS[1]))['last-generated-id']
    local read = group['last-delivered-id']
    -- Removed entries will not be read: they were deleted, or they were accepted before the group
    -- was created again.
    local unread = redis.call('XRANGE', KEYS[1], '(' .. read, '+', 'COUNT', 1)
    local pending = redis.call('XPENDING', KEYS[1], request.group)
    return reply({
      moment = clock.now,
      newest = newest,
      read = #unread > 0 and read or newest,
      pending = pending[2] or nil,
    })
  end
end
return reply({moment = clock.now})
