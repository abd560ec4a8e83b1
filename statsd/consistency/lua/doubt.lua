-- Mark the states of dojos as wrong, until a whole pass builds them anew. Their statistics are
-- computed from the database meanwhile.
--
-- request: dojos
--
-- include jobs/queue

next_token()
for _, dojo in ipairs(request.dojos) do redis.call('HSET', DOUBTS, dojo, digits(clock.token)) end
