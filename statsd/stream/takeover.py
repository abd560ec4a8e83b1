"""Take over the entries of consumers that died."""

import asyncio
import logging
from collections.abc import Collection
from typing import Protocol

from statsd.consistency.reconcile import Reconcile
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import Queue
from statsd.stream.event_stream import FIRST, Stream

log = logging.getLogger(__name__)

PAGE = 500  # entries that are taken over at once
INTERVAL = 5.0  # seconds between two searches
IDLE = 15.0  # seconds that an entry must have been pending; accepting one takes far less
GONE = 3600.0  # seconds after which a silent consumer without entries is removed


class PendingReader(Protocol):
    """The reader of this consumer's pending entries."""

    @property
    def kept(self) -> Collection[str]:
        """Ids of pending entries that other daemons shall not take over while this one lives."""

    def read_again(self) -> None:
        """Read the pending entries again: some of them were not read yet."""


class Takeover:
    """Searches the pending entries of other consumers at intervals."""

    def __init__(
        self,
        stream: Stream,
        queue: Queue,
        reader: PendingReader,
        *,
        interval: float = INTERVAL,
        idle: float = IDLE,
        gone: float = GONE,
    ) -> None:
        """`reader` reads the entries that are taken over; times are in seconds."""
        self._stream = stream
        self._queue = queue
        self._reader = reader
        self._interval = interval
        self._idle = idle
        self._gone = gone
        self._cursor = FIRST

    async def step(self) -> None:
        """Search one page, from where the last search ended."""
        await asyncio.sleep(self._interval)
        found = await self._stream.take_over(
            self._cursor,
            count=PAGE,
            idle=self._idle,
            gone=self._gone,
            kept=self._reader.kept,
        )
        self._cursor = found.cursor
        if found.taken:
            log.warning("took over events of another consumer", extra={"events": found.taken})
        if found.taken or found.deleted:  # a deletion lowers `taken`
            self._reader.read_again()
        if found.deleted:
            log.warning("pending events were deleted; reconciling", extra={"events": found.deleted})
            await self._queue.enqueue([PendingJob(Reconcile())])
        if found.removed:
            log.info("removed silent consumers", extra={"consumers": found.removed})

    async def recover(self) -> None:
        """Search from the beginning."""
        self._cursor = FIRST
