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

INTERVAL = 5.0  # seconds between two looks
IDLE = 15.0  # seconds an entry must have been pending; setting marks takes far less
GONE = 3600.0  # seconds after which a silent consumer that holds nothing is dismissed


class PendingReader(Protocol):
    """Whoever reads the entries that are pending here."""

    @property
    def kept(self) -> Collection[str]:
        """Ids of pending entries that others shall not take over while this daemon lives."""

    def read_again(self) -> None:
        """Read the pending entries: there are some that were not read."""


class Takeover:
    """Looks through the group's pending entries on a timer, whether or not new ones come."""

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
        """Take who reads here; durations are in seconds."""
        self._stream = stream
        self._queue = queue
        self._reader = reader
        self._interval = interval
        self._idle = idle
        self._gone = gone
        self._cursor = FIRST

    async def step(self) -> None:
        """Look once, from where the last look ended."""
        await asyncio.sleep(self._interval)
        claim = await self._stream.claim(
            self._cursor, idle=self._idle, gone=self._gone, kept=self._reader.kept
        )
        self._cursor = claim.cursor
        if claim.taken:
            log.warning("took over events of another consumer", extra={"events": claim.taken})
        if claim.taken or claim.deleted:  # which make up for each other in the count
            self._reader.read_again()
        if claim.deleted:
            log.warning("pending events were deleted; reconciling", extra={"events": claim.deleted})
            await self._queue.enqueue([PendingJob(Reconcile())])
        if claim.dismissed:
            log.info("dismissed silent consumers", extra={"consumers": claim.dismissed})

    async def recover(self) -> None:
        """Begin anew."""
        self._cursor = FIRST
