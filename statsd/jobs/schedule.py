"""Refreshes that are owed again and again."""

import asyncio

from statsd.job import Job
from statsd.jobs.queue import Queue
from statsd.jobs.wakeup import Wakes


class Schedule:
    """Owes one refresh at intervals; once for all daemons whose timers are the same."""

    def __init__(self, queue: Queue, wake_up: Wakes, job: Job, interval: float) -> None:
        """`interval` is in seconds; `wake_up` is rung when the refresh is owed."""
        self._queue = queue
        self._wake_up = wake_up
        self._job = job
        self._interval = interval

    async def step(self) -> None:
        """Rest; then owe it, unless another daemon has done so lately."""
        await asyncio.sleep(self._interval)
        if await self._queue.enqueue_once(self._job, self._interval):
            self._wake_up.wake()

    async def recover(self) -> None:
        """Nothing is to be put right."""
