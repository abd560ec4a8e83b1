"""Missed events: solves that are in the database and of which no event told.

A web process may die between its commit and its publishing, Redis may be away just then, rows
may be written by hand. So the newest submissions are looked at every second. A solve that no
accepted event covers is suspect; if it still is when every event published meanwhile was
accepted, it goes to the handler of solves as if an event had come.

Ids are given out before their transactions commit, so a look cannot simply go on from the
largest id. The watermark moves up to an id only when every transaction that wrote submissions
when that id was seen has ended; and some ids below it are looked at again, for those that were
given out without a lock that would show it.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, ClassVar, NamedTuple

import msgspec
import sqlalchemy as sa
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators.counted import among
from statsd.consistency.in_flight import Wait, intake
from statsd.consistency.reconcile import Reconcile
from statsd.consistency.saved_state import remembered
from statsd.events import ChallengeSolve
from statsd.handlers.registry import handler_of
from statsd.job import Job, Priority, register_kind
from statsd.jobs.bisect import bisect
from statsd.jobs.pending import AcknowledgedSolve, Consequence, PendingJob
from statsd.jobs.queue import SECOND, Answer, Attempt
from statsd.schema import CORRECT, submissions
from statsd.servers.database import Database
from statsd.servers.outages import brief
from statsd.servers.snapshot import Row, Snapshot

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two looks
GRACE = 2.0  # seconds from commit to publishing, at the most, where all is well
OVERLAP = 1_000  # ids below the watermark that are looked at again
READ_AT_ONCE = 100_000  # solves
REMIND = 60.0  # seconds between two lines about more than that
SUSPECTS_AT_ONCE = 1_000
SENTINEL = -1  # no solve: is missing where what is covered was forgotten


class MissedSolves(Job, frozen=True):
    """Look whether there are solves without an event."""

    kind: ClassVar[str] = "missed_solves"
    priority: ClassVar[Priority] = Priority.INTERACTIVE  # it takes a few milliseconds


register_kind(MissedSolves)


class Watermark(msgspec.Struct, frozen=True):
    """How far the watch has come. It is the value of the refresh, written as any other."""

    low: int
    """All solves up to this id are covered, and no transaction can bring another one."""
    high: int
    """What `low` becomes when every transaction has ended that may bring ids up to this one."""
    writers: tuple[str, ...]
    """Those that wrote submissions when `high` was seen, and have done so since."""
    suspects: tuple[int, ...] = ()
    """Solves that were not covered when they were seen."""
    wait: Wait = Wait(0)
    """For the events of the suspects."""
    missed: int = 0
    """How many solves without an event were found so far."""


class _Look(NamedTuple):
    """What a snapshot shows."""

    newest: int
    """The largest id there is."""
    top: int
    """The largest id up to which was read."""
    uncovered: list[int]
    """Solves above the watermark, or a little below, that nothing covers."""
    writers: tuple[str, ...]
    """Transactions that wrote submissions after the snapshot was taken."""


class MissedSolvesFinder:
    """Answers `MissedSolves`."""

    def __init__(self, redis: Redis, database: Database, *, grace: float = GRACE) -> None:
        """`grace` is how long an event may take from its commit to its publishing, in seconds."""
        self._redis = redis
        self._database = database
        self._grace = int(grace * SECOND)
        self._told = -math.inf

    async def execute(
        self, wanted: Sequence[MissedSolves], _attempt: Attempt
    ) -> Mapping[MissedSolves, Answer]:
        """Look once; hand on the suspects that have been so for long enough."""
        before = await remembered(self._redis, keys.WATERMARK, Watermark)
        answer = before and await self._go_on(before)
        return dict.fromkeys(wanted, answer or await self._begin_anew())

    async def _begin_anew(self) -> Answer:
        """Begin at the end of a snapshot; what is in it, and no event told, reconciling finds.

        What is forgotten here was covered before the snapshot, and so is in it.
        """
        await self._redis.delete(keys.ACKNOWLEDGED_SOLVES)
        async with self._database.snapshot() as snapshot:
            look = await self._look(snapshot, None)
        watermark = Watermark(low=look.top, high=look.top, writers=look.writers)
        acknowledged = [
            AcknowledgedSolve(solve) for solve in look.uncovered
        ]  # the sentinel among them
        return _answer(watermark, [*acknowledged, PendingJob(Reconcile())])

    async def _go_on(self, before: Watermark) -> Answer | None:
        """Look from the watermark on; None where that cannot be.

        What was covered is forgotten, or the database ends long before the watermark: that is
        another one, or it was restored. It will use ids again.
        """
        await self._redis.zremrangebyscore(keys.ACKNOWLEDGED_SOLVES, 0, before.low - OVERLAP)
        newest: Any = await self._redis.zrange(keys.ACKNOWLEDGED_SOLVES, -1, -1)
        async with self._database.snapshot() as snapshot:
            look = await self._look(snapshot, before.low)
        seen = await intake(self._redis)
        if SENTINEL in look.uncovered or look.newest < before.low - OVERLAP:
            return None
        if newest and int(newest[0]) > look.newest:  # deleted; ids may be used again
            await self._redis.zremrangebyscore(
                keys.ACKNOWLEDGED_SOLVES, f"({look.newest}", int(newest[0])
            )
        wait = before.wait.go_on(seen, self._grace)
        if not wait.is_over(seen):
            return _answer(_moved(before, look, _waiting(before, look), wait, seen.moment), ())
        consequences = await self._missed(before)
        found = {
            consequence.submission_id
            for consequence in consequences
            if isinstance(consequence, AcknowledgedSolve)
        }
        look = look._replace(uncovered=[each for each in look.uncovered if each not in found])
        after = _moved(before, look, (), wait, seen.moment)
        return _answer(
            msgspec.structs.replace(after, missed=before.missed + len(found)), consequences
        )

    async def _look(self, snapshot: Snapshot, low: int | None) -> _Look:
        """Read a snapshot from the watermark on, or its end; then, who writes since it."""
        [newest] = await snapshot.scalars(_NEWEST)
        newest = top = newest or 0
        parameters = {"low": (newest if low is None else low) - OVERLAP, "limit": READ_AT_ONCE}
        solves = await snapshot.scalars(_SOLVES, parameters)
        if len(solves) == READ_AT_ONCE:
            top = solves[-1]
            self._tell_of_many(top)
        uncovered = await self._uncovered([SENTINEL, *solves])
        return _Look(newest, top, uncovered, tuple(await snapshot.scalars(_WRITERS)))

    def _tell_of_many(self, top: int) -> None:
        if monotonic() - self._told > REMIND:
            self._told = monotonic()
            log.warning(
                "very many solves to look at, or a transaction is open for long; newer ones are "
                "looked at later",
                extra={"solves": READ_AT_ONCE, "up_to": top},
            )

    async def _uncovered(self, solves: Sequence[int]) -> list[int]:
        scores = await self._redis.zmscore(
            keys.ACKNOWLEDGED_SOLVES, [str(solve) for solve in solves]
        )
        return [solve for solve, score in zip(solves, scores, strict=True) if score is None]

    async def _missed(self, before: Watermark) -> list[Consequence]:
        """Return what the suspects that still are make stale, as if events had come."""
        solves = await self._uncovered(before.suspects) if before.suspects else []
        if not solves:
            return []
        async with self._database.snapshot() as snapshot:
            missed = await snapshot.rows(_SUSPECTS, {"solves": solves})
        if missed:
            log.warning(
                "solves of which no event told in time",
                extra={"solves": len(missed), "first": missed[0].id},
            )
        found, failed = await bisect(missed, self._handled) if missed else ([], [])
        consequences = [consequence for part in found for consequence in part]
        for each, error in failed:
            log.error(
                "a solve of which no event told cannot be handled; reconciling",
                extra={"solve": each.id, "error": brief(error)},
            )
            consequences += [AcknowledgedSolve(each.id), PendingJob(Reconcile())]
        return consequences

    async def _handled(self, missed: Sequence[Row]) -> list[Consequence]:
        events = [ChallengeSolve(each.user_id, each.challenge_id) for each in missed]
        handler = handler_of(ChallengeSolve)
        lookup = self._database.lookup(lambda: None)
        return [] if handler is None else list(await handler(events, lookup))


def _waiting(before: Watermark, look: _Look) -> tuple[int, ...]:
    """Return the suspects that are not covered yet, or that the look no longer reached."""
    reached, uncovered = before.low - OVERLAP, set(look.uncovered)
    return tuple(solve for solve in before.suspects if solve in uncovered or solve <= reached)


def _moved(
    before: Watermark, look: _Look, waiting: tuple[int, ...], wait: Wait, moment: int
) -> Watermark:
    """Return the watermark after a look at a moment; `waiting` are suspects that remain so.

    It never goes back, or it would come to solves that are no longer remembered as covered.
    """
    high, writers, low = before.high, _still_writing(before.writers, look.writers), before.low
    if not before.writers:  # they had ended before the look, which so has seen all they brought
        low = max(low, min([high, look.top, *(each - 1 for each in look.uncovered if each > low)]))
        high, writers = look.top, look.writers
    return Watermark(
        low=low,
        high=high,
        writers=writers,
        suspects=waiting or tuple(look.uncovered[:SUSPECTS_AT_ONCE]),
        wait=wait if waiting else Wait(moment),
        missed=before.missed,
    )


def _still_writing(before: Sequence[str], now: Sequence[str]) -> tuple[str, ...]:
    """Return who has not ended; who is prepared to commit has got another name for it."""
    return tuple(each for each in now if each in before or each.startswith(_PREPARED))


def _answer(watermark: Watermark, consequences: Sequence[Consequence]) -> Answer:
    return Answer({keys.WATERMARK: msgspec.to_builtins(watermark)}, consequences)


_NEWEST = sa.select(sa.func.max(submissions.c.id))
# Inserting takes this lock on the table before an id is taken from the sequence, and taking an id
# takes it on the sequence; both are held to the end of the transaction.
_WRITERS = sa.text(
    "SELECT DISTINCT virtualtransaction FROM pg_locks"
    " WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND relation IN ('submissions'::regclass,"
    " pg_get_serial_sequence('submissions', 'id')::regclass)"
)
_PREPARED = "-1/"  # how a prepared transaction's name begins in that view
_is_solve = sa.and_(  # of something: what has no challenge is in no dojo
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
