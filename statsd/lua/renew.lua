-- Keep the leases of work that still goes on, and hand out a newer token for its next attempt.
--
-- request: lease, names, duration (microseconds)
-- reply: token, now, epoch

tick()
for _, name in ipairs(request.names) do
  if redis.call('HGET', LEASES, name) == request.lease then
    set_due(name, clock.now + request.duration)
  end
end
return {digits(clock.token), digits(clock.now), clock.epoch}
