-- Put a dead letter back to work: the entry into the stream, or the refresh among the marks.
--
-- KEYS[1] the dead letters
-- KEYS[2] the stream
-- request: id, class (of the mark that a refresh gets), cut (what data that was cut ends with)
-- reply: 'replayed', 'gone' (there is no such letter) or 'incomplete' (its data was not kept)

tick()
local letter = redis.call('XRANGE', KEYS[1], request.id, request.id)[1]
if not letter then return 'gone' end
local fields = {}
for i = 1, #letter[2], 2 do fields[letter[2][i]] = letter[2][i + 1] end

if fields.name then
  owe(fields.name, request.class)
elseif not fields.data or fields.data == '' or fields.data:sub(-#request.cut) == request.cut then
  return 'incomplete'
else
  redis.call('XADD', KEYS[2], '*', 'data', fields.data)
end
redis.call('XDEL', KEYS[1], request.id)
return 'replayed'
