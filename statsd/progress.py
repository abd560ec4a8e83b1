"""How far the background work, such as a cold start, has come."""

import asyncio
import logging
from time import monotonic

from statsd.gate import Gate
from statsd.marks import Marks
from statsd.refresh import Priority

log = logging.getLogger(__name__)

PROGRESS_INTERVAL = 0.5  # seconds between two looks at the background marks


class Progress:
    """Logs how far the background work (a cold start, reconciling) has come."""

    def __init__(self, marks: Marks, gate: Gate) -> None:
        """Take what is told that such work is under way."""
        self._marks = marks
        self._gate = gate
        self._total = 0
        self._began = self._told = monotonic()

    async def step(self) -> None:
        """Look once; log every second, and at the end."""
        left = await self._marks.owed(Priority.BACKGROUND)
        self._gate.is_filling = left > 0
        if left > self._total:
            if not self._total:
                self._began = monotonic()
            self._total = left
        if self._total:
            self._log(left)
        await asyncio.sleep(PROGRESS_INTERVAL)

    def _log(self, left: int) -> None:
        seconds = round(monotonic() - self._began, 1)
        done = {"done": self._total - left, "total": self._total, "seconds": seconds}
        if not left:
            log.info("background refreshes are done", extra=done)
            self._total = 0
        elif monotonic() - self._told > 1:
            self._told = monotonic()
            log.info("background refreshes go on", extra=done)

    async def recover(self) -> None:
        """Nothing is to be put right."""
