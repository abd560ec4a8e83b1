"""Events become marks: read a batch, ask the handlers what is stale, mark and acknowledge."""

import logging
import traceback
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from time import monotonic
from typing import Any

from statsd import events
from statsd.consistency.reconcile import Reconcile
from statsd.errors import InvalidEventError
from statsd.events import Event
from statsd.handlers.registry import Handler, handler_of
from statsd.jobs.bisect import isolate
from statsd.jobs.pending import Mark, Record
from statsd.jobs.provenance import Cause, cause_of, joined
from statsd.jobs.queue import Marks
from statsd.jobs.wakeup import Ring
from statsd.observability.counters import Tally
from statsd.servers.database import Database
from statsd.servers.outages import brief, is_outage, passes
from statsd.stream.cursor import Paging
from statsd.stream.event_stream import DeadEntry, Entry, Stream

log = logging.getLogger(__name__)

Decoded = tuple[Entry, Event]
Planned = tuple[Iterable[Record], Cause]
"""What some events made stale, and those events."""

LOOK_INTERVAL = 10.0  # seconds between two looks at the server


class Consumer:
    """Reads the stream, its own pending entries first; sets marks; acknowledges."""

    def __init__(
        self,
        stream: Stream,
        marks: Marks,
        database: Database,
        bell: Ring,
        *,
        batch_size: int,
        tally: Tally | None = None,
    ) -> None:
        """Take what to ring when there are new marks, and how many events to read at once."""
        self._tally = tally or Tally()
        self._stream = stream
        self._marks = marks
        self._database = database
        self._bell = bell
        self._paging = Paging(batch_size)
        self._suspect = False
        self._looked = 0.0
        self.last_turn = monotonic()
        """When the loop last came round (monotonic): by this others see that it turns."""

    def _turn(self) -> None:
        self.last_turn = monotonic()

    def read_again(self) -> None:
        """Read the own pending entries, from the first, before new ones."""
        self._paging.again()

    @property
    def kept(self) -> Collection[str]:
        """Ids of the pending entries in hand, and of those that are left alone for a while."""
        return self._paging.kept

    async def recover(self) -> None:
        """Begin with the own pending entries again, as after any error."""
        self._turn()
        self._paging.failed(suspect=self._suspect)
        self._suspect = False
        await self._look()

    async def _look(self) -> None:
        """See whether the group is there and the server the one that it was.

        A restart may break no call of ours: connections that nobody waits on are made anew.
        """
        first, self._looked = not self._looked, monotonic()
        if await self._stream.prepare():
            log.log(
                logging.INFO if first else logging.WARNING,
                "the group is new, or Redis is another; reconciling",
            )
            self.read_again()
            # Older data may hold leases of this daemon that it no longer works on. What it does
            # work on is refused when it comes, and done again.
            await self._marks.release()

    async def step(self) -> None:
        """Handle one batch."""
        self._turn()
        if monotonic() - self._looked > LOOK_INTERVAL:
            await self._look()
        self._turn()
        self._paging.begin()
        page = await self._stream.read(self._paging.start, self._paging.count)
        self._turn()
        if entries := self._paging.take(page):
            await self._accept(entries)
        self._paging.done()

    def _passes(self, error: BaseException) -> bool:
        """As `passes`; remembers an error that may be due to the very events in hand."""
        self._suspect = passes(error) and not is_outage(error)
        return passes(error)

    async def _accept(self, entries: Sequence[Entry]) -> None:
        began = monotonic()
        decoded, dead = _decode(entry for entry in entries if not entry.deleted)
        causes: dict[Record, Cause | None] = {}
        if any(entry.deleted for entry in entries):
            log.warning("entries were deleted before they were handled; reconciling")
            causes[Mark(Reconcile())] = None
        for event_type, group in _by_type(decoded).items():
            handler = handler_of(event_type)
            if handler is not None:
                planner = self._planner(handler, event_type.type)
                planned, failed = await isolate(group, planner, self._passes)
                for records, cause in planned:
                    _add(causes, records, cause)
                dead += [_letter(entry, error, event_type) for (entry, _), error in failed]
        marks = sum(isinstance(record, Mark) for record in causes)
        # Who wakes now sends its request right behind this one, and does not wait for the reply.
        rung = self._bell.ring() if marks else None
        merged = await self._stream.accept([entry.id for entry in entries], causes, dead)
        if rung:
            self._bell.again(rung)  # it may have been before, and have seen none of the marks
        types = Counter(event.type for _, event in decoded)
        self._tally.accepted(types, dead=len(dead), marks=marks, merged=merged)
        for letter in dead:
            log.error(
                "an event went to the dead letters",
                extra={
                    "entry": letter.entry.id,
                    "event_type": letter.event_type,
                    "error": letter.error,
                },
            )
        log.info(
            "batch accepted",
            extra={
                "events": len(entries),
                "event_types": types,
                "first_entry": entries[0].id,
                "last_entry": entries[-1].id,
                "refreshes": marks,
                "merged": merged,
                "dead": len(dead),
                "milliseconds": round((monotonic() - began) * 1000, 1),
            },
        )

    def _planner(
        self, handler: Handler[Any], event_type: str
    ) -> Callable[[Sequence[Decoded]], Awaitable[Planned]]:
        async def plan(group: Sequence[Decoded]) -> Planned:
            lookup = self._database.lookup(self._turn)
            records = await handler([event for _, event in group], lookup)
            return records, cause_of((entry.id for entry, _ in group), event_type)

        return plan


def _add(causes: dict[Record, Cause | None], records: Iterable[Record], cause: Cause) -> None:
    """Note what events are the cause of; more than one type may be."""
    for record in records:
        before = causes.get(record)
        causes[record] = joined(before, cause) if before else cause


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
