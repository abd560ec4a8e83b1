-- Say how far the group has come in the stream.
--
-- KEYS[1] the stream
-- request: group
-- reply: the last entry that was published, the last that was read, and the first that was read
--        and is not acknowledged ('' where there is none); nothing where stream or group is not
--        there

if redis.call('EXISTS', KEYS[1]) == 0 then return {} end

local function fields_of(reply)
  local found = {}
  for i = 1, #reply, 2 do found[reply[i]] = reply[i + 1] end
  return found
end

for _, reply in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = fields_of(reply)
  if group.name == request.group then
    local stream = fields_of(redis.call('XINFO', 'STREAM', KEYS[1]))
    local pending = redis.call('XPENDING', KEYS[1], request.group)
    return {stream['last-generated-id'], group['last-delivered-id'], pending[2] or ''}
  end
end
return {}
