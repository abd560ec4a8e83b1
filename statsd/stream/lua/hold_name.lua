-- Hold a consumer's name, or let it go.
--
-- request: key, holder (who holds it from now on), before (who may have held it; absent: nobody
--          else), milliseconds (for how long; 0: the name is let go)
-- reply: 1, or 0 where somebody else holds it

local found = redis.call('GET', request.key)
if found and found ~= request.holder and found ~= request.before then return 0 end
if request.milliseconds > 0 then
  redis.call('SET', request.key, request.holder, 'PX', request.milliseconds)
else
  redis.call('DEL', request.key)
end
return 1
