-- Renew the leases of running jobs, and return a newer token for their next attempt.
--
-- request: lease, names (hundreds, since each command takes all of them), duration (microseconds)
-- reply: token, moment (`now`), epoch
--
-- include jobs/queue

next_token()
local ends = digits(clock.now + request.duration)
local due = {} -- by class
local leases = #request.names > 0 and redis.call('HMGET', LEASES, unpack(request.names)) or {}
for i, lease in ipairs(leases) do
  local name = request.names[i]
  local class = lease == request.lease and redis.call('HGET', JOB .. name, 'class')
  if class then
    due[class] = due[class] or {}
    table.insert(due[class], ends)
    table.insert(due[class], name)
  end
end
for class, some in pairs(due) do redis.call('ZADD', DUE .. class, unpack(some)) end
return reply({token = clock.token, moment = clock.now, epoch = clock.epoch})
