-- Enqueue the jobs of which a key is missing: somebody deleted it, or Redis evicted it.
--
-- request: cursor, count (about how many jobs are examined)
-- reply: cursor (of the next call; 0: that was the last page), missing (how many were enqueued)
--
-- include jobs/hooks
-- include jobs/missing

next_token()
local page = redis.call('HSCAN', KEY_INDEX, request.cursor, 'COUNT', request.count)
local found, incomplete = page[2], 0
for i = 1, #found, 2 do
  local name = found[i]
  local is_whole, missing = hooks.is_whole(name), missing_in(cjson.decode(found[i + 1]))
  if not is_whole or #missing > 0 then
    incomplete = incomplete + 1
    if not (is_whole and hooks.repair(name, missing)) then
      redis.call('HDEL', COOLDOWNS, name) -- a cooldown is no reason for a gap
      enqueue(name, ORDINARY)
    end
  end
end
return reply({cursor = page[1], missing = incomplete})
