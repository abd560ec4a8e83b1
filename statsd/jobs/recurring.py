"""Recurring jobs: a job is enqueued at intervals."""

import asyncio

from statsd.job import Job
from statsd.jobs.queue import Queue
from statsd.jobs.wakeup import Wakes


class RecurringJob:
    """Enqueues one job at intervals, once for all daemons that have the same recurring job."""

    def __init__(self, queue: Queue, wake_up: Wakes, job: Job, interval: float) -> None:
        """`interval` is in seconds; `wake_up` is woken when the job was enqueued."""
        self._queue = queue
        self._wake_up = wake_up
        self._job = job
        self._interval = interval

    async def step(self) -> None:
        """Wait, then enqueue the job, unless another daemon has done so within the interval."""
        await asyncio.sleep(self._interval)
        if await self._queue.enqueue_once(self._job, self._interval):
            self._wake_up.wake()

    async def recover(self) -> None:
        """Nothing has to be restored."""
