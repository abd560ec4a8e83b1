-- Store the memberships of a dojo, unless newer ones are stored. ARGV[2] has them.
--
-- request: dojo, prefix (of the generation), token (of the snapshot that they are from)
--
-- include boards/state

next_token()
local generation = current_generation(request.dojo)
if generation and prefix_of(request.dojo, generation) == request.prefix
  and is_a(request.prefix, 'hash')
  and tonumber(redis.call('HGET', request.prefix, 'members_token') or 0) < request.token then
  redis.call('SET', request.prefix .. ':members', ARGV[2])
  redis.call('HSET', request.prefix, 'members_token', digits(request.token))
end
