"""The consumer: read a batch of events, ask the handlers for jobs, enqueue and acknowledge."""

import logging
import traceback
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from time import monotonic
from typing import Any

from statsd import events
from statsd.consistency.reconcile import Reconcile
from statsd.errors import InvalidEventError
from statsd.events import Event
from statsd.handlers.registry import Handler, handler_of
from statsd.jobs.bisect import bisect
from statsd.jobs.pending import Consequence, PendingJob, in_steps
from statsd.jobs.provenance import Provenance, joined, provenance_of
from statsd.jobs.queue import Queue
from statsd.jobs.wakeup import Wakes
from statsd.observability.counters import Counters
from statsd.servers.database import Database
from statsd.servers.errors import brief, is_outage, is_transient
from statsd.stream.cursor import StreamCursor
from statsd.stream.event_stream import DeadEntry, Entry, Stream

log = logging.getLogger(__name__)

Decoded = tuple[Entry, Event]
Planned = tuple[Iterable[Consequence], Provenance | None]
"""The consequences of some events, and those events. They are made while they are enqueued."""

CHECK_INTERVAL = 10.0  # seconds between two checks of group and server
DEAD_STEP = 20  # entries, of up to LARGEST_DATA each, that one call buries


class Consumer:
    """Reads the stream, its own pending entries first, and turns events into jobs."""

    def __init__(
        self,
        stream: Stream,
        queue: Queue,
        database: Database,
        wake_up: Wakes,
        *,
        batch_size: int,
        counters: Counters | None = None,
    ) -> None:
        """`wake_up` is woken when jobs were enqueued; `batch_size` is events at once."""
        self._counters = counters or Counters()
        self._stream = stream
        self._queue = queue
        self._database = database
        self._wake_up = wake_up
        self._cursor = StreamCursor(batch_size)
        self._suspect = False
        self._checked = 0.0
        self._is_told = True  # the history of the database; until it is not
        self.last_turn = self.last_finished = monotonic()
        """When the loop last tried something, and when it last finished a step (monotonic)."""

    def _turn(self) -> None:
        self.last_turn = monotonic()

    def read_again(self) -> None:
        """Read this consumer's pending entries from the first one on, before new ones."""
        self._cursor.restart()

    @property
    def kept(self) -> Collection[str]:
        """Ids of the pending entries in this batch, and of the postponed entries."""
        return self._cursor.kept

    async def recover(self) -> None:
        """Begin with this consumer's pending entries, as after any error."""
        self._turn()
        self._cursor.failed(suspect=self._suspect)
        self._suspect = False
        await self._check()

    async def _check(self) -> None:
        """Create the group where it is missing, and detect a restart of the server.

        A restart does not always break a call: idle connections are simply opened again.
        """
        is_first, self._checked = not self._checked, monotonic()
        if await self._stream.ensure_group():
            log.log(
                logging.INFO if is_first else logging.WARNING,
                "the consumer group is new, or Redis was restarted; reconciling",
            )
            self.read_again()
            # Older data may have leases of this daemon for jobs that are no longer running. The
            # answers of running jobs are fenced, and those jobs are leased again.
            await self._queue.release()
        await self._check_history()

    async def _check_history(self) -> None:
        """Reconcile where another PostgreSQL is the primary: it may lack commits with an event."""
        history = await self._database.history()
        if history is None:
            if self._is_told:
                log.warning("PostgreSQL does not tell its history; a failover is not noticed by it")
            self._is_told = False
            return
        if not await self._queue.is_same_history(history):
            log.warning("PostgreSQL has another history, as after a failover; reconciling")
            await self._queue.enqueue([PendingJob(Reconcile())])
        await self._queue.keep_history(history)

    async def step(self) -> None:
        """Handle one batch."""
        self._turn()
        if monotonic() - self._checked > CHECK_INTERVAL:
            await self._check()
        self._turn()
        self._cursor.begin()
        page = await self._stream.read(self._cursor.start, self._cursor.count)
        self._turn()
        if entries := self._cursor.select(page):
            await self._accept(entries)
        self._cursor.done()
        self.last_finished = monotonic()

    def _is_transient(self, error: BaseException) -> bool:
        """As `is_transient`; notes whether the events of this batch may have caused the error."""
        self._suspect = is_transient(error) and not is_outage(error)
        return is_transient(error)

    async def _accept(self, entries: Sequence[Entry]) -> None:
        began = monotonic()
        decoded, dead = _decode(entry for entry in entries if not entry.deleted)
        planned: list[Planned] = []
        if any(entry.deleted for entry in entries):
            log.warning("entries were deleted before they were handled; reconciling")
            planned.append(([PendingJob(Reconcile())], None))
        for event_type, group in _by_type(decoded).items():
            handler = handler_of(event_type)
            if handler is not None:
                planner = self._planner(handler, event_type.type)
                handled, failed = await bisect(group, planner, self._is_transient)
                planned += handled
                dead += [_letter(entry, error, event_type) for (entry, _), error in failed]
        await self._bury(dead)
        jobs, merged = await self._enqueue([entry.id for entry in entries], planned)
        types = Counter(event.type for _, event in decoded)
        self._counters.accepted(types, dead=len(dead), enqueued=jobs, merged=merged)
        log.info(
            "batch accepted",
            extra={
                "events": len(entries),
                "event_types": types,
                "first_entry": entries[0].id,
                "last_entry": entries[-1].id,
                "jobs": jobs,
                "merged": merged,
                "dead": len(dead),
                "milliseconds": round((monotonic() - began) * 1000, 1),
            },
        )

    async def _bury(self, dead: Sequence[DeadEntry]) -> None:
        """Make dead letters of invalid entries; each is acknowledged in the step that buries it."""
        for first in range(0, len(dead), DEAD_STEP):
            self._turn()
            some = dead[first : first + DEAD_STEP]
            await self._stream.accept([letter.entry.id for letter in some], {}, some)
            for letter in some:
                log.error(
                    "an event went to the dead letters",
                    extra={
                        "entry": letter.entry.id,
                        "event_type": letter.event_type,
                        "error": letter.error,
                    },
                )

    async def _enqueue(self, ids: Sequence[str], planned: Sequence[Planned]) -> tuple[int, int]:
        """Enqueue the jobs in steps; return how many, and how many were pending already.

        The events are acknowledged in the last step. If it is not reached, they are handled again,
        and jobs that were enqueued before are enqueued twice, which is once.
        """
        jobs = merged = 0
        for step, is_last in in_steps(_with_provenance(planned)):
            self._turn()
            provenances = _joined(step)
            enqueued = sum(isinstance(consequence, PendingJob) for consequence in provenances)
            # A worker that wakes now sends its request right after this one, and no round trip is
            # lost.
            woken = self._wake_up.wake() if enqueued else None
            merged += await self._stream.accept(ids if is_last else (), provenances, ())
            self.last_finished = monotonic()
            if woken:
                self._wake_up.repeat(woken)  # its request may have come first, and found no job
            jobs += enqueued
        return jobs, merged

    def _planner(
        self, handler: Handler[Any], event_type: str
    ) -> Callable[[Sequence[Decoded]], Awaitable[Planned]]:
        async def plan(group: Sequence[Decoded]) -> Planned:
            lookup = self._database.lookup(self._turn)
            consequences = await handler([event for _, event in group], lookup)
            return consequences, provenance_of((entry.id for entry, _ in group), event_type)

        return plan


def _with_provenance(
    planned: Iterable[Planned],
) -> Iterator[tuple[Consequence, Provenance | None]]:
    for consequences, provenance in planned:
        for consequence in consequences:
            yield consequence, provenance


def _joined(
    step: Iterable[tuple[Consequence, Provenance | None]],
) -> dict[Consequence, Provenance | None]:
    """Return the provenance of each consequence; events of several types may lead to one.

    The script joins them where such events are not in one step.
    """
    found: dict[Consequence, Provenance | None] = {}
    for consequence, provenance in step:
        before = found.get(consequence)
        found[consequence] = joined(before, provenance) if before and provenance else provenance
    return found


def _decode(entries: Iterable[Entry]) -> tuple[list[Decoded], list[DeadEntry]]:
    decoded, dead = [], []
    for entry in entries:
        try:
            decoded.append((entry, events.decode(entry.data)))
        except InvalidEventError as error:
            dead.append(_letter(entry, error, None))
    return decoded, dead


def _by_type(decoded: Iterable[Decoded]) -> dict[type[Event], list[Decoded]]:
    groups = defaultdict(list)
    for entry, event in decoded:
        groups[type(event)].append((entry, event))
    return groups


def _letter(entry: Entry, error: Exception, event_type: type[Event] | None) -> DeadEntry:
    reason = "".join(traceback.format_exception(error))
    return DeadEntry(entry, brief(error), reason, event_type.type if event_type else None)
