"""The search for missed solves: solves in the database that no event announced.

A web process may die between its commit and its publishing, Redis may be away at that moment, and
rows may be written by hand. So the newest submissions are scanned every second. A solve that is
not acknowledged is a suspect. If it still is when every event published meanwhile was accepted,
it goes to the handler of solves as if an event had come.

Ids are given out before their transactions commit, so a scan cannot simply continue from the
largest id. The watermark moves up to an id only when every transaction that was writing
submissions when that id was read has ended. Some ids below the watermark are scanned again, since
an id can be given out without a lock that would show it.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from time import monotonic
from typing import Any, ClassVar, NamedTuple

import msgspec
import sqlalchemy as sa
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators.counted import among
from statsd.consistency.reconcile import Reconcile
from statsd.consistency.saved_state import load_state
from statsd.consistency.stream_position import AcceptanceWait, stream_position
from statsd.events import ChallengeSolve
from statsd.handlers.registry import handler_of
from statsd.job import SECOND, Job, Priority, register_kind
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.bisect import bisect
from statsd.jobs.pending import AcknowledgedSolve, Consequence, PendingJob
from statsd.schema import CORRECT, submissions
from statsd.servers.database import Database
from statsd.servers.errors import brief
from statsd.servers.snapshot import Row, Snapshot

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two scans
GRACE = 2.0  # seconds from commit to publishing, at the most, in normal operation
OVERLAP = 1_000  # ids below the watermark that are scanned again
READ_AT_ONCE = 100_000  # solves
WARNING_INTERVAL = 60.0  # seconds between two warnings about more than that
SUSPECTS_AT_ONCE = 1_000
SENTINEL = -1  # no solve: it is absent if Redis lost the acknowledged solves


class MissedSolves(Job, frozen=True):
    """Scan for solves without an event."""

    kind: ClassVar[str] = "missed_solves"
    priority: ClassVar[Priority] = Priority.INTERACTIVE  # it takes a few milliseconds


register_kind(MissedSolves)


class Watermark(msgspec.Struct, frozen=True):
    """The progress of the search, stored as the value of its job."""

    low: int
    """All solves up to this id are acknowledged, and no open transaction can add another."""
    high: int
    """The next value of `low`, once all transactions that may add ids up to it have ended."""
    writers: tuple[str, ...]
    """Transactions that wrote submissions when `high` was read, and are still open."""
    suspects: tuple[int, ...] = ()
    """Solves that were not acknowledged when they were read."""
    wait: AcceptanceWait = AcceptanceWait(0)
    """Until the events of the suspects are accepted."""
    missed: int = 0
    """The number of missed solves found so far."""


class _Scan(NamedTuple):
    """The submissions of a snapshot, from a little below the watermark."""

    newest: int
    """The largest id in the table."""
    top: int
    """The largest id that the scan reached."""
    unacknowledged: list[int]
    """Ids of solves, and SENTINEL if the acknowledged solves were lost."""
    writers: tuple[str, ...]
    """Transactions that wrote submissions after the snapshot was taken."""


class MissedSolvesFinder:
    """Executes `MissedSolves`."""

    def __init__(self, redis: Redis, database: Database, *, grace: float = GRACE) -> None:
        """`grace` is how long an event may take from its commit to its publishing, in seconds."""
        self._redis = redis
        self._database = database
        self._grace = int(grace * SECOND)
        self._last_warning = -math.inf

    async def execute(
        self, wanted: Sequence[MissedSolves], _attempt: Attempt
    ) -> Mapping[MissedSolves, Answer]:
        """Scan once; handle the suspects whose wait is over."""
        before = await load_state(self._redis, keys.WATERMARK, Watermark)
        answer = before and await self._continue(before)
        return dict.fromkeys(wanted, answer or await self._start_anew())

    async def _start_anew(self) -> Answer:
        """Start at the end of a snapshot; a reconcile computes all solves of the snapshot.

        The acknowledged solves can be deleted here: all of them are in the snapshot.
        """
        await self._redis.delete(keys.ACKNOWLEDGED_SOLVES)
        async with self._database.snapshot() as snapshot:
            scan = await self._scan(snapshot, None)
        watermark = Watermark(low=scan.top, high=scan.top, writers=scan.writers)
        acknowledged = map(AcknowledgedSolve, scan.unacknowledged)  # with the sentinel
        return _answer(watermark, [*acknowledged, PendingJob(Reconcile())])

    async def _continue(self, before: Watermark) -> Answer | None:
        """Scan from the watermark; return None if the watermark is no longer valid.

        It is not valid if Redis lost the acknowledged solves. Nor is it if the database ends long
        before the watermark: that is another or a restored database, which will use ids again.
        """
        await self._redis.zremrangebyscore(keys.ACKNOWLEDGED_SOLVES, 0, before.low - OVERLAP)
        newest: Any = await self._redis.zrange(keys.ACKNOWLEDGED_SOLVES, -1, -1)
        async with self._database.snapshot() as snapshot:
            scan = await self._scan(snapshot, before.low)
        position = await stream_position(self._redis)
        if SENTINEL in scan.unacknowledged or scan.newest < before.low - OVERLAP:
            return None
        if newest and int(newest[0]) > scan.newest:  # deleted; ids may be used again
            await self._redis.zremrangebyscore(
                keys.ACKNOWLEDGED_SOLVES, f"({scan.newest}", int(newest[0])
            )
        wait = before.wait.updated(position, self._grace)
        if not wait.is_over(position):
            suspects = _remaining_suspects(before, scan)
            return _answer(_advanced(before, scan, suspects, wait, position.moment), ())
        found, consequences = await self._handle_missed(before)
        scan = scan._replace(
            unacknowledged=[each for each in scan.unacknowledged if each not in found]
        )
        after = _advanced(before, scan, (), wait, position.moment)
        missed = before.missed + len(found)
        return _answer(msgspec.structs.replace(after, missed=missed), consequences)

    async def _scan(self, snapshot: Snapshot, low: int | None) -> _Scan:
        """Read submissions from a watermark, or the end of the table; then the open writers."""
        [newest] = await snapshot.scalars(_NEWEST)
        newest = top = newest or 0
        parameters = {"low": (newest if low is None else low) - OVERLAP, "limit": READ_AT_ONCE}
        solves = await snapshot.scalars(_SOLVES, parameters)
        if len(solves) == READ_AT_ONCE:
            top = solves[-1]
            self._warn_of_many(top)
        unacknowledged = await self._unacknowledged([SENTINEL, *solves])
        return _Scan(newest, top, unacknowledged, tuple(await snapshot.scalars(_WRITERS)))

    def _warn_of_many(self, top: int) -> None:
        if monotonic() - self._last_warning > WARNING_INTERVAL:
            self._last_warning = monotonic()
            log.warning(
                "too many solves to examine, or a long transaction is open; newer solves are "
                "examined later",
                extra={"solves": READ_AT_ONCE, "up_to": top},
            )

    async def _unacknowledged(self, solves: Sequence[int]) -> list[int]:
        scores = await self._redis.zmscore(
            keys.ACKNOWLEDGED_SOLVES, [str(solve) for solve in solves]
        )
        return [solve for solve, score in zip(solves, scores, strict=True) if score is None]

    async def _handle_missed(self, before: Watermark) -> tuple[set[int], Iterable[Consequence]]:
        """Return the suspects that are still not acknowledged, and their consequences."""
        solves = await self._unacknowledged(before.suspects) if before.suspects else []
        if not solves:
            return set(), ()
        async with self._database.snapshot() as snapshot:
            missed = await snapshot.rows(_SUSPECTS, {"solves": solves})
        if missed:
            log.warning(
                "solves without an event", extra={"solves": len(missed), "first": missed[0].id}
            )
        handled, failed = await bisect(missed, self._handle) if missed else ([], [])
        found = {each.id for each in missed}
        further: list[Consequence] = [*map(AcknowledgedSolve, found)]
        for solve, error in failed:
            log.error(
                "a solve without an event cannot be handled; reconciling",
                extra={"solve": solve.id, "error": brief(error)},
            )
            further.append(PendingJob(Reconcile()))
        return found, chain(*handled, further)

    async def _handle(self, missed: Sequence[Row]) -> Iterable[Consequence]:
        events = [ChallengeSolve(each.user_id, each.challenge_id) for each in missed]
        handler = handler_of(ChallengeSolve)
        lookup = self._database.lookup(lambda: None)
        return () if handler is None else await handler(events, lookup)


def _remaining_suspects(before: Watermark, scan: _Scan) -> tuple[int, ...]:
    """Return the suspects that are not acknowledged yet, or are below the range of the scan."""
    reached, unacknowledged = before.low - OVERLAP, set(scan.unacknowledged)
    return tuple(solve for solve in before.suspects if solve in unacknowledged or solve <= reached)


def _advanced(
    before: Watermark, scan: _Scan, suspects: tuple[int, ...], wait: AcceptanceWait, moment: int
) -> Watermark:
    """Return the watermark after a scan at a moment; `suspects` are those that remain.

    It never goes back: the acknowledged solves below it have been removed.
    """
    high, writers, low = before.high, _still_writing(before.writers, scan.writers), before.low
    if not before.writers:  # they had ended before the scan, which so has read all their rows
        suspected = [solve - 1 for solve in scan.unacknowledged if solve > low]
        low = max(low, min([high, scan.top, *suspected]))
        high, writers = scan.top, scan.writers
    return Watermark(
        low=low,
        high=high,
        writers=writers,
        suspects=suspects or tuple(scan.unacknowledged[:SUSPECTS_AT_ONCE]),
        wait=wait if suspects else AcceptanceWait(moment),
        missed=before.missed,
    )


def _still_writing(before: Sequence[str], now: Sequence[str]) -> tuple[str, ...]:
    """Return the transactions that are open; a prepared one has got another name."""
    return tuple(each for each in now if each in before or each.startswith(_PREPARED))


def _answer(watermark: Watermark, consequences: Iterable[Consequence]) -> Answer:
    return Answer({keys.WATERMARK: msgspec.to_builtins(watermark)}, consequences)


_NEWEST = sa.select(sa.func.max(submissions.c.id))
# An insertion locks the table in this mode before it takes an id from the sequence, and taking an
# id locks the sequence. Both locks are kept to the end of the transaction.
_WRITERS = sa.text(
    "SELECT DISTINCT virtualtransaction FROM pg_locks"
    " WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND relation IN ('submissions'::regclass,"
    " pg_get_serial_sequence('submissions', 'id')::regclass)"
)
_PREPARED = "-1/"  # prefix of a prepared transaction's name in pg_locks
_is_solve = sa.and_(  # a solve without a challenge is in no dojo
    submissions.c.type == CORRECT,
    submissions.c.user_id.is_not(None),
    submissions.c.challenge_id.is_not(None),
)
_SOLVES = (
    sa.select(submissions.c.id)
    .where(submissions.c.id > sa.bindparam("low", type_=sa.Integer), _is_solve)
    .order_by(submissions.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_SUSPECTS = sa.select(submissions.c.id, submissions.c.user_id, submissions.c.challenge_id).where(
    among(submissions.c.id, "solves"), _is_solve
)
