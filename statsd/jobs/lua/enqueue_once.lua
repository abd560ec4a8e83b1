-- Owe a refresh, once for all who ask for it within some time.
--
-- request: name, class, asked (the key that remembers it), milliseconds

tick()
if redis.call('SET', request.asked, 1, 'NX', 'PX', request.milliseconds) then
  owe(request.name, request.class)
  return 1
end
return 0
