-- Replay a dead letter: add its entry to the stream again, or enqueue its job.
--
-- KEYS[1] the dead letters
-- KEYS[2] the stream
-- request: id, class (of a job), cut (the text at the end of data that was cut)
-- reply: 'replayed', 'gone' (there is no such dead letter) or 'incomplete' (its data was not kept)
--
-- include jobs/queue

next_token()
local letter = redis.call('XRANGE', KEYS[1], request.id, request.id)[1]
if not letter then return 'gone' end
local fields = {}
for i = 1, #letter[2], 2 do fields[letter[2][i]] = letter[2][i + 1] end

if fields.name then
  enqueue(fields.name, request.class)
elseif not fields.data or fields.data == '' or fields.data:sub(-#request.cut) == request.cut then
  return 'incomplete'
else
  redis.call('XADD', KEYS[2], '*', 'data', fields.data)
end
redis.call('XDEL', KEYS[1], request.id)
return 'replayed'
