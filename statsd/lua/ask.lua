-- A reader missed a key: owe its refresh, once for all readers in a few seconds.
--
-- request: name, asked (the key that remembers it), seconds

tick()
if redis.call('SET', request.asked, 1, 'NX', 'EX', request.seconds) then
  owe(request.name, MISSED)
  return 1
end
return 0
