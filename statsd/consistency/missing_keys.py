"""The sweep: the search for keys that were deleted or evicted without any event."""

import asyncio
import logging

from redis.asyncio import Redis

from statsd.consistency.reconcile import Reconcile
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import Queue

log = logging.getLogger(__name__)

INTERVAL = 20.0  # seconds between two sweeps; the contract promises a rebuild within a minute
PAGE = 50  # jobs examined in one step, which takes a few milliseconds for whole dojos


class Sweep:
    """Examines all written keys, a page at a time, and the server's count of evictions."""

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
        """Examine one page; before the first page wait, then check for evictions."""
        if self._cursor == "0":
            await asyncio.sleep(self._interval)
            await self._check_evictions()
        if self._refill:
            self._cursor, missing = await self._queue.sweep(self._cursor, PAGE)
            if missing:
                log.warning("values were missing from the cache", extra={"jobs": missing})

    async def _check_evictions(self) -> None:
        """Reconcile if the server evicted any key: it may have been a pending job."""
        evicted = int((await self._redis.info("stats")).get("evicted_keys", 0))
        if self._evicted is not None and evicted > self._evicted:
            log.warning(
                "Redis evicts keys; reconciling. It needs more memory, or the policy noeviction",
                extra={"evicted": evicted - self._evicted},
            )
            await self._queue.enqueue([PendingJob(Reconcile())])
        self._evicted = evicted

    async def recover(self) -> None:
        """Begin the sweep anew. The server's count still has all evictions of the meantime."""
        self._cursor = "0"
