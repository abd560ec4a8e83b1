-- Say how far the group has come in the stream, and when.
--
-- KEYS[1] the stream
-- request: group
-- reply: now, then, unless stream or group is not there, the last entry that was published, the
--        last that was read, and the first that was read and is not acknowledged ('' where there
--        is none)

tick()
local now = digits(clock.now)
if redis.call('EXISTS', KEYS[1]) == 0 then return {now} end

local function fields_of(reply)
  local found = {}
  for i = 1, #reply, 2 do found[reply[i]] = reply[i + 1] end
  return found
end

for _, reply in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = fields_of(reply)
  if group.name == request.group then
    local newest = fields_of(redis.call('XINFO', 'STREAM', KEYS[1]))['last-generated-id']
    local read = group['last-delivered-id']
    -- What is no longer there will not be read: deleted, or accepted before the group was made anew.
    local unread = redis.call('XRANGE', KEYS[1], '(' .. read, '+', 'COUNT', 1)
    local pending = redis.call('XPENDING', KEYS[1], request.group)
    return {now, newest, #unread > 0 and read or newest, pending[2] or ''}
  end
end
return {now}
