-- Release leases without an answer, so that their jobs are due at once. A daemon does so when it
-- starts (for leases from before a crash), when it stops, and when PostgreSQL or Redis is away.
--
-- request: owner, names
-- reply: how many
--
-- include jobs/queue

next_token()
local own_prefix = request.owner .. '/'
local released = 0
for _, name in ipairs(request.names) do
  local lease = redis.call('HGET', LEASES, name)
  if lease and lease:sub(1, #own_prefix) == own_prefix then
    release_lease(name, 0)
    released = released + 1
  end
end
return released
