-- Read a page of a board, and one user's own entry.
--
-- request: dojo, scope, days, first, last (ranks from 0), me (a user's id; may be nil)
-- reply: nil where the board, or the name of a user on it, is missing; else total (entries on the
--        board), entries (array of entries in rank order), own (an entry; nil: the user has none);
--        an entry is {rank (from 0), user, score (text), text (JSON of name and e-mail address)}
--
-- include boards/state

local state = readable(request.dojo)
if not state then return nil end
local key = board(state.prefix, request.scope, request.days)

local size = redis.call('ZCARD', key)
if size == 0 then return nil end
local entries, own = {}, nil
local found = redis.call('ZREVRANGE', key, request.first, request.last, 'WITHSCORES')
for i = 1, #found, 2 do
  local user = found[i]
  if user ~= SENTINEL then
    local text = text_in(redis.call('HGET', NAMES, user))
    if not text then return nil end
    entries[#entries + 1] =
      {rank = request.first + #entries, user = user, score = found[i + 1], text = text}
  end
end
local rank = request.me and redis.call('ZREVRANK', key, request.me)
if rank then
  local text = text_in(redis.call('HGET', NAMES, request.me))
  if not text then return nil end
  own = {rank = rank, user = request.me, score = redis.call('ZSCORE', key, request.me), text = text}
end
return reply({total = size - 1, entries = entries, own = own})
