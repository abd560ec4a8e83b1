"""Notice what Redis lost without any event: values that were deleted, keys that it evicted."""

import asyncio
import logging

from redis.asyncio import Redis

from statsd.consistency.reconcile import Reconcile
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import Queue

log = logging.getLogger(__name__)

INTERVAL = 20.0  # seconds between two sweeps; the contract's promise is a minute
PAGE = 200  # refreshes looked at in one step


class Sweep:
    """Looks at all keys that were written, a page at a time, and at the server's evictions."""

    def __init__(
        self, redis: Redis, queue: Queue, *, refill: bool, interval: float = INTERVAL
    ) -> None:
        """Without `refill` absent values stay absent (SKIP_COLD_START)."""
        self._interval = interval
        self._redis = redis
        self._queue = queue
        self._refill = refill
        self._cursor = "0"
        self._evicted: int | None = None

    async def step(self) -> None:
        """Look at one page; rest when all were looked at."""
        if self._cursor == "0":
            await asyncio.sleep(self._interval)
            await self._look_for_evictions()
        if self._refill:
            self._cursor, missing = await self._queue.sweep(self._cursor, PAGE)
            if missing:
                log.warning("values were missing from the cache", extra={"jobs": missing})

    async def _look_for_evictions(self) -> None:
        """Reconcile if the server evicted anything: it may have been what is owed."""
        evicted = int((await self._redis.info("stats")).get("evicted_keys", 0))
        if self._evicted is not None and evicted > self._evicted:
            log.warning(
                "Redis evicts keys; reconciling. It needs more memory, or the policy noeviction",
                extra={"evicted": evicted - self._evicted},
            )
            await self._queue.enqueue([PendingJob(Reconcile())])
        self._evicted = evicted

    async def recover(self) -> None:
        """Begin anew. What was evicted meanwhile is still in the server's count."""
        self._cursor = "0"
