-- Renew the leases of running jobs, and return a newer token for their next attempt.
--
-- request: lease, names, duration (microseconds)
-- reply: token, moment (`now`), epoch
--
-- include jobs/queue

local PAGE = 1000 -- names in one command

next_token()
local ends = digits(clock.now + request.duration)
for first = 1, #request.names, PAGE do
  local names = {unpack(request.names, first, math.min(first + PAGE - 1, #request.names))}
  local due = {} -- by class
  for i, lease in ipairs(redis.call('HMGET', LEASES, unpack(names))) do
    local class = lease == request.lease and redis.call('HGET', JOB .. names[i], 'class')
    if class then
      due[class] = due[class] or {}
      table.insert(due[class], ends)
      table.insert(due[class], names[i])
    end
  end
  for class, some in pairs(due) do redis.call('ZADD', DUE .. class, unpack(some)) end
end
return reply({token = clock.token, moment = clock.now, epoch = clock.epoch})
