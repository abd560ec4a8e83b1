-- Turn a batch of events into marks, bury what cannot be understood, and acknowledge, in one
-- step: from here on the marks are the debt.
--
-- KEYS[1] the stream
-- KEYS[2] the dead letters
-- request: group, ids, ackdel (the server has XACKDEL), marks (as `set_marks` takes them),
--          covered (ids of solves that the marks answer for), dead (arrays of field, value,
--          ...), dead_limit
-- ARGV[2] ... the data of each dead entry (it may be any bytes, which MessagePack in Lua
--          cannot tell from text)
-- reply: how many of the marks were there already

tick()
set_marks(request.marks)
cover(request.covered)
for i, fields in ipairs(request.dead) do
  fields[#fields + 1] = 'data'
  fields[#fields + 1] = ARGV[1 + i]
  bury(KEYS[2], request.dead_limit, fields)
end
for first = 1, #request.ids, 1000 do
  local last = math.min(first + 999, #request.ids)
  if request.ackdel then
    redis.call('XACKDEL', KEYS[1], request.group, 'KEEPREF', 'IDS', last - first + 1,
      unpack(request.ids, first, last))
  else
    redis.call('XACK', KEYS[1], request.group, unpack(request.ids, first, last))
    redis.call('XDEL', KEYS[1], unpack(request.ids, first, last))
  end
end
return merged
