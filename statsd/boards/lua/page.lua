-- Read a part of a live board, and one user's own place on it.
--
-- request: dojo, place, days, first, last (ranks from 0), me (a user's id; may be nil)
-- reply: nothing where the board, or a record of one who is on it, is not there, else: how many are
--        on it, the entries (arrays of rank from 0, user, score, JSON of the record), the own one or
--        nothing

local prefix = BOARDS .. request.dojo
local key = board(prefix, request.place, request.days)

local function record(user)
  local its = redis.call('HGET', prefix .. ':users', user)
  return its and its:match('^[^|]*|%d*|(.*)$')
end

if not is_a(prefix, 'hash') or is_outdone(request.dojo) then return {} end
local size = redis.call('ZCARD', key)
if size == 0 then return {} end
local entries, own = {}, {}
local found = redis.call('ZREVRANGE', key, request.first, request.last, 'WITHSCORES')
for i = 1, #found, 2 do
  if found[i] ~= SENTINEL then
    local its = record(found[i])
    if not its then return {} end
    entries[#entries + 1] = {request.first + #entries, found[i], found[i + 1], its}
  end
end
local rank = request.me and redis.call('ZREVRANK', key, request.me)
if rank then
  local its = record(request.me)
  if not its then return {} end
  own = {rank, request.me, redis.call('ZSCORE', key, request.me), its}
end
return {size - 1, entries, own}
