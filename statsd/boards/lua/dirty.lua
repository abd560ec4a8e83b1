-- List the arrays of a dojo that have changed since they were exported.
--
-- request: dojo
-- reply: nil where the state is missing; else generation, token (of this moment), is_doubtful (the
--        dojo itself differs, so that arrays from this state would be wrong), arrays (array of {name,
--        size (entries), as-of of the exported array (text)})
--
-- include boards/arrays

next_token()
local state = open(request.dojo)
if not state or not has_keys_of(state, 'dojo') then return nil end

local function size_of(array)
  local kind, scope, days = array:match('^(.):([^:]+):?(%d*)$')
  if kind == 'b' then return redis.call('ZCARD', board(state.prefix, scope, days)) - 1 end
  if kind == 'c' then return redis.call('HLEN', state.prefix .. ':' .. scope .. ':challenges') - 1 end
  return redis.call('STRLEN', items_of(state.prefix, scope)) / ITEM_SIZE - 1
end

local arrays = {}
for _, array in ipairs(redis.call('ZRANGE', state.prefix .. ':dirty', 0, -1)) do
  if array:sub(1, 2) == 'b:' and not has_exports() then
    redis.call('ZREM', state.prefix .. ':dirty', array) -- marked before they were left out
  elseif array ~= SENTINEL then
    local scope = array:match('^.:([^:]+)')
    if not has_keys_of(state, scope) then return nil end
    arrays[#arrays + 1] = {array, size_of(array), as_of(key_of(request.dojo, array))}
  end
end
return reply({generation = state.generation, token = clock.token, is_doubtful = has_doubt(state),
  arrays = arrays})
