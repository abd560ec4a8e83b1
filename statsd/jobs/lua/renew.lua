-- Keep the leases of work that still goes on, and hand out a newer token for its next attempt.
--
-- request: lease, names, duration (microseconds)
-- reply: token, now, epoch

local SOME = 1000 -- names that are looked up, or written, at once

tick()
local ends = digits(clock.now + request.duration)
for first = 1, #request.names, SOME do
  local names = {unpack(request.names, first, math.min(first + SOME - 1, #request.names))}
  local due = {} -- by class
  for i, lease in ipairs(redis.call('HMGET', LEASES, unpack(names))) do
    local class = lease == request.lease and redis.call('HGET', MARK .. names[i], 'class')
    if class then
      due[class] = due[class] or {}
      table.insert(due[class], ends)
      table.insert(due[class], names[i])
    end
  end
  for class, some in pairs(due) do redis.call('ZADD', DUE .. class, unpack(some)) end
end
return {digits(clock.token), digits(clock.now), clock.epoch}
