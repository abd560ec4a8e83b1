-- Delete the arrays of scoreboards and crews, which are left out from now on, some in each call.
--
-- request: source ('index' or 'owners': where their keys are looked up), cursor, count (about how
--          many fields are examined)
-- reply: the cursor of the next call; '0': that was the last page
--
-- include boards/arrays

if has_exports() then return '0' end -- another daemon wants them
local function drop(key)
  redis.call('UNLINK', key, key .. AS_OF)
  redis.call('HDEL', KEY_OWNERS, key)
end

local hash = request.source == 'index' and KEY_INDEX or KEY_OWNERS
local page = redis.call('HSCAN', hash, request.cursor, 'COUNT', request.count)
local found = page[2]
for i = 1, #found, 2 do
  local field, key_index = found[i], found[i + 1]
  if hash == KEY_OWNERS then
    if is_of_board(field) then drop(field) end
  elseif has_boards(key_index) then
    local kept = without_boards(key_index, drop)
    if kept == '[]' then
      redis.call('HDEL', KEY_INDEX, field)
    else
      redis.call('HSET', KEY_INDEX, field, kept)
    end
  end
end
return page[1]
