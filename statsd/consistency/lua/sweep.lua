-- Owe what has lost a key: deleted by somebody, or evicted.
--
-- request: cursor, count (how many refreshes are looked at, about)
-- reply: the next cursor (0: that was the last page), how many refreshes are owed for it

tick()
-- What is of another type, no reader can read.
local function is_text(key) return redis.call('TYPE', key).ok == 'string' end

-- Beside its values a scoreboard has live boards, which are whole or not there.
local function has_boards(name)
  local dojo = name:match('^scoreboard:(.*)$')
  return not dojo or whole(dojo) ~= nil
end

local function is_there(name, held)
  for _, key in ipairs(held) do
    if not (is_text(key) and is_text(key .. ':updated')) then return false end
  end
  return has_boards(name)
end

local page = redis.call('HSCAN', HOLDINGS, request.cursor, 'COUNT', request.count)
local found, missing = page[2], 0
for i = 1, #found, 2 do
  if not is_there(found[i], cjson.decode(found[i + 1])) then
    redis.call('HDEL', RESTS, found[i]) -- that it rests is no reason for a gap
    owe(found[i], ORDINARY)
    missing = missing + 1
  end
end
return {page[1], missing}
