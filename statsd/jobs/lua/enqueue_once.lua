-- Enqueue a job at most once in some time, for all callers.
--
-- request: name, class, requested (the key that exists meanwhile), milliseconds
-- reply: 1 where the job was enqueued, else 0
--
-- include jobs/queue

next_token()
if redis.call('SET', request.requested, 1, 'NX', 'PX', request.milliseconds) then
  enqueue(request.name, request.class)
  return 1
end
return 0
