"""How far the background work, such as a cold start, has come."""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from statsd.job import Priority
from statsd.jobs.load_shedder import LoadShedder
from statsd.jobs.queue import Queue

log = logging.getLogger(__name__)

STALLED = 30.0  # seconds in which no background mark was answered
PROGRESS_INTERVAL = 0.5  # seconds between two looks at the background marks


class FillProgress:
    """Logs how far the background work (a cold start, reconciling) has come."""

    def __init__(
        self, queue: Queue, load_shedder: LoadShedder, clock: Callable[[], float] = monotonic
    ) -> None:
        """Take what is told that such work is under way, and what tells the time, in seconds."""
        self._clock = clock
        self._queue = queue
        self._load_shedder = load_shedder
        self._total = self._left = 0
        self._began = self._told = self._moved = self._clock()

    async def step(self) -> None:
        """Look once; log every second, and at the end."""
        left = await self._queue.pending(Priority.BACKGROUND)
        if left < self._left or not self._left:
            self._moved = self._clock()
        self._left = left
        # What is put off again and again, or known to other versions alone, is no cold start.
        self._load_shedder.is_filling = left > 0 and self._clock() - self._moved < STALLED
        if left > self._total:
            if not self._total:
                self._began = self._clock()
            self._total = left
        if self._total:
            self._log(left)
        await asyncio.sleep(PROGRESS_INTERVAL)

    def _log(self, left: int) -> None:
        seconds = round(self._clock() - self._began, 1)
        done = {"done": self._total - left, "total": self._total, "seconds": seconds}
        if not left:
            log.info("background refreshes are done", extra=done)
            self._total = 0
        elif self._clock() - self._told > 1:
            self._told = self._clock()
            log.info("background refreshes go on", extra=done)

    async def recover(self) -> None:
        """Nothing is to be put right."""
