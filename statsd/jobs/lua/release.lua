-- Give leases back unanswered, due at once: when a daemon starts (its own, from before), when
-- it leaves, and when a server it needs is gone.
--
-- request: owner, names (absent: all that the owner has)
-- reply: how many

tick()
local mine = request.owner .. '/'
local released = 0
local function release(name, lease)
  if lease and lease:sub(1, #mine) == mine then
    give_back(name, 0)
    released = released + 1
  end
end
if request.names then
  for _, name in ipairs(request.names) do release(name, redis.call('HGET', LEASES, name)) end
else
  local leases = redis.call('HGETALL', LEASES)
  for i = 1, #leases, 2 do release(leases[i], leases[i + 1]) end
end
return released
