-- Enqueue a job once for all callers that ask for it within some time.
--
-- request: name, class, requested (the key that remembers it), milliseconds
-- reply: 1 where the job was enqueued, else 0
--
-- include jobs/queue

next_token()
if redis.call('SET', request.requested, 1, 'NX', 'PX', request.milliseconds) then
  enqueue(request.name, request.class)
  return 1
end
return 0
