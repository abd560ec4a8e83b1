-- Hold a consumer's name by a heartbeat, or release it.
--
-- request: key, holder (the new holder), before (another holder that may be replaced; nil: none),
--          milliseconds (until the name is free again; 0: it is free at once)
-- reply: 1, or 0 where another daemon holds the name
--
-- include jobs/queue

local found = redis.call('GET', request.key)
if found and found ~= request.holder and found ~= request.before then return 0 end
if request.milliseconds > 0 then
  redis.call('SET', request.key, request.holder, 'PX', request.milliseconds)
else
  redis.call('DEL', request.key)
end
return 1
