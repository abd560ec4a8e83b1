"""The job queue in Redis: what it stores, and the workers that complete its jobs."""
