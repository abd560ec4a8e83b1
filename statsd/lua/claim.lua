-- Take over what other consumers read and did not acknowledge for a while, and dismiss consumers
-- that are gone for good; both in one step, so that nobody is dismissed who holds anything.
--
-- KEYS[1] the stream
-- request: group, consumer, idle (milliseconds an entry must have been pending), cursor, count,
--          gone (milliseconds after which a silent consumer that holds nothing is dismissed)
-- reply: the next cursor, how many entries were taken over, how many had been deleted, the names
--        of those dismissed

local claimed = redis.call('XAUTOCLAIM', KEYS[1], request.group, request.consumer,
  request.idle, request.cursor, 'COUNT', request.count, 'JUSTID')

local dismissed = {}
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], request.group)) do
  local consumer = {}
  for i = 1, #fields, 2 do consumer[fields[i]] = fields[i + 1] end
  if consumer.pending == 0 and consumer.idle > request.gone and consumer.name ~= request.consumer then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], request.group, consumer.name)
    dismissed[#dismissed + 1] = consumer.name
  end
end
return {claimed[1], #claimed[2], claimed[3] and #claimed[3] or 0, dismissed}
