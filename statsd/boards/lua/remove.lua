-- Remove generations that are not current: replaced ones, and those whose build was interrupted.
--
-- request: dojo and generation; or, to remove some at a time: before (a token: older ones go), and
--          dojos (dojo -> true: all of these go, since the caller is the only one that builds them)
-- reply: how many
--
-- include boards/state

local SOME = 10

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
    local is_left_over = request.dojos[dojo] or tonumber(generation) < request.before
    if is_left_over and removed < SOME then remove_unless_current(dojo, generation) end
  end
end
return removed
