-- Enqueue jobs for callers that are no handlers: a daemon that starts, an operator, a replay.
--
-- request: jobs (as `enqueue_all` takes them)
--
-- include jobs/queue

next_token()
enqueue_all(request.jobs)
