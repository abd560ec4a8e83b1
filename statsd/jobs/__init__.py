"""The job queue in Redis, and the workers that complete its jobs."""
