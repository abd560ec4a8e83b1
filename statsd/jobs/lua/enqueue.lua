-- Enqueue jobs that follow from no event: for a daemon that starts, or for an operator.
--
-- request: jobs (as `enqueue_all` takes them)
--
-- include jobs/queue

next_token()
enqueue_all(request.jobs)
