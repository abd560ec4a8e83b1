"""Signs of life, and how far a cold start has come."""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from redis.asyncio import Redis

from statsd import keys
from statsd.marks import Marks
from statsd.refresh import Priority

log = logging.getLogger(__name__)

SIGN_INTERVAL = 2.0  # seconds between two signs of life
SIGN_LASTS = 15  # seconds
STUCK = 15.0  # seconds without a turn of the consumer's loop, beyond its longest statement
PROGRESS_INTERVAL = 0.5  # seconds between two looks at the background marks


class Life:
    """Says in Redis that this daemon consumes, for as long as it really does."""

    def __init__(
        self, redis: Redis, consumer: str, last_turn: Callable[[], float], *, stuck: float
    ) -> None:
        """`last_turn` tells when (monotonic) the consumer's loop last came round.

        After `stuck` seconds without a turn there is no sign of life any more.
        """
        self._stuck = stuck
        self._redis = redis
        self._key = keys.alive(consumer)
        self._last_turn = last_turn

    async def step(self) -> None:
        """Renew the sign, if the consumer turns."""
        if monotonic() - self._last_turn() < self._stuck:
            await self._redis.set(self._key, 1, ex=SIGN_LASTS)
        await asyncio.sleep(SIGN_INTERVAL)

    async def recover(self) -> None:
        """Nothing is to be put right."""


class Progress:
    """Logs how far the background work (a cold start, reconciling) has come."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._total = 0
        self._began = self._told = monotonic()

    async def step(self) -> None:
        """Look once; log every second, and at the end."""
        left = await self._marks.owed(Priority.BACKGROUND)
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
