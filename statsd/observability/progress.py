"""The progress of background jobs, such as those of a cold start."""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from statsd.job import Priority
from statsd.jobs.load_shedder import LoadShedder
from statsd.jobs.queue import Queue

log = logging.getLogger(__name__)

STALLED = 30.0  # seconds without a completed background job
INTERVAL = 0.5  # seconds between two looks
LOG_INTERVAL = 1.0  # seconds between two lines


class FillProgress:
    """Logs the progress of background jobs, and tells the load shedder while they go on."""

    def __init__(
        self, queue: Queue, load_shedder: LoadShedder, clock: Callable[[], float] = monotonic
    ) -> None:
        """`clock` returns seconds."""
        self._clock = clock
        self._queue = queue
        self._load_shedder = load_shedder
        self._total = self._left = 0
        self._began = self._logged = self._moved = self._clock()

    async def step(self) -> None:
        """Look once; log at intervals, and at the end."""
        left = await self._queue.pending(Priority.BACKGROUND)
        if left < self._left or not self._left:
            self._moved = self._clock()
        self._left = left
        # Jobs that are always deferred, or known only to other versions, are no cold start.
        self._load_shedder.is_filling = left > 0 and self._clock() - self._moved < STALLED
        if left > self._total:
            if not self._total:
                self._began = self._clock()
            self._total = left
        if self._total:
            self._log(left)
        await asyncio.sleep(INTERVAL)

    def _log(self, left: int) -> None:
        seconds = round(self._clock() - self._began, 1)
        done = {"done": self._total - left, "total": self._total, "seconds": seconds}
        if not left:
            log.info("background jobs are done", extra=done)
            self._total = 0
        elif self._clock() - self._logged > LOG_INTERVAL:
            self._logged = self._clock()
            log.info("background jobs go on", extra=done)

    async def recover(self) -> None:
        """Do nothing: the next step reads everything again."""
