-- Remove generations that are not current: replaced ones, and those whose build was interrupted.
--
-- request: dojo, generation (nil: all that are older than `before`), before (token)
-- reply: how many
--
-- include boards/state

next_token()
local removed = 0
local function remove_unless_current(dojo, generation)
  if current_generation(dojo) ~= generation then
    remove_generation(dojo, generation)
    removed = removed + 1
  end
end
if request.generation then
  remove_unless_current(request.dojo, request.generation)
else
  for _, id in ipairs(redis.call('HKEYS', GENERATIONS)) do
    local dojo, generation = id:match('^(.*)@(%d+)$')
    if tonumber(generation) < request.before and removed < 10 then remove_unless_current(dojo, generation) end
  end
end
return removed
