-- Read what a dojo's live boards say of those who have a tag.
--
-- request: dojo
-- reply: nothing, where its boards are not whole, or doubtful; else: its places, and for each who
--        has a tag the user, the JSON that is kept of it, and for each place where it has entries an
--        array of that place and the ranks, from 0, in the windows (-1: no entry)

tick()

local prefix = BOARDS .. request.dojo

-- None where what is kept of the user does not agree with the boards: a module came or went.
local function ranks_of(user, places)
  local found = {}
  for place in places:gmatch('[^,]+') do
    local own = {place}
    for i, days in ipairs(WINDOWS) do
      own[i + 1] = redis.call('ZREVRANK', board(prefix, place, days), user) or -1
    end
    if own[2] < 0 then return nil end -- of all time
    found[#found + 1] = own
  end
  return found
end

local places = whole(request.dojo)
if not places or is_doubtful(request.dojo, 'crews:' .. request.dojo) then return {} end
local people, found = {}, redis.call('HGETALL', prefix .. ':crews')
for i = 1, #found, 2 do
  if found[i] ~= SENTINEL then
    local own, text = found[i + 1]:match('^([^|]*)|(.*)$')
    local ranks = ranks_of(found[i], own)
    if not ranks then return {} end
    people[#people + 1] = {found[i], text, ranks}
  end
end
return {places, people}
