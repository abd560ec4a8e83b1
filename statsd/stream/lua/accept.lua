-- Accept events, or a part of the jobs of some: enqueue jobs, bury invalid entries as dead letters,
-- acknowledge entries and remove them from the stream. The events of many jobs take several calls, of
-- which the last one has the entries.
--
-- KEYS[1] the stream
-- KEYS[2] the dead letters
-- request: group, ids, ackdel (whether the server has XACKDEL), jobs (as `enqueue_all` takes
--          them), acknowledged (ids of solves whose jobs are among them), dead (array of arrays:
--          field, value, ...), dead_limit
-- ARGV[2] ... the data of each dead entry (any bytes, which MessagePack in Lua cannot tell from
--          text)
-- reply: how many of the jobs were pending already
--
-- include jobs/queue

local PAGE = 1000 -- ids in one command

next_token()
enqueue_all(request.jobs)
acknowledge_solves(request.acknowledged)
for i, fields in ipairs(request.dead) do
  fields[#fields + 1] = 'data'
  fields[#fields + 1] = ARGV[1 + i]
  bury(KEYS[2], request.dead_limit, fields)
end
for first = 1, #request.ids, PAGE do
  local last = math.min(first + PAGE - 1, #request.ids)
  if request.ackdel then
    redis.call('XACKDEL', KEYS[1], request.group, 'KEEPREF', 'IDS', last - first + 1,
      unpack(request.ids, first, last))
  else
    redis.call('XACK', KEYS[1], request.group, unpack(request.ids, first, last))
    redis.call('XDEL', KEYS[1], unpack(request.ids, first, last))
  end
end
return merged
