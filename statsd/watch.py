"""Missed events: solves that are in the database and of which no event told.

A web process may die between its commit and its publishing, Redis may be away just then, rows
may be written by hand. So the newest submissions are looked at every second. A solve that no
accepted event covers is suspect; if it still is when every event published meanwhile was
accepted, it goes to the handler of solves as if an event had come.

Ids are given out before their transactions commit, so a look cannot simply go on from the
largest id. The watermark moves up to an id only when every transaction that was open when that
id was seen has ended; and some ids below it are looked at again, for those that were given out
without a transaction.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import msgspec
import sqlalchemy as sa
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection

from statsd import keys
from statsd.calculators.counted import among
from statsd.database import Database, rows
from statsd.events import ChallengeSolve
from statsd.marks import SECOND, Answer, Attempt, settled_until
from statsd.reconcile import Reconcile
from statsd.refresh import Covered, Mark, Priority, Record, Refresh, register_kind
from statsd.registry import handler_of
from statsd.schema import submissions

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two looks
GRACE = 2.0  # seconds from commit to publishing, at the most, where all is well
OVERLAP = 1_000  # ids below the watermark that are looked at again
READ_AT_ONCE = 100_000  # solves
SUSPECTS_AT_ONCE = 1_000


class MissedSolves(Refresh, frozen=True):
    """Look whether there are solves without an event."""

    kind: ClassVar[str] = "missed_solves"
    priority: ClassVar[Priority] = Priority.INTERACTIVE  # it takes a few milliseconds


register_kind(MissedSolves)


class Watermark(msgspec.Struct, frozen=True):
    """How far the watch has come. It is the value of the refresh, written as any other."""

    low: int
    """All solves up to this id are covered, and no transaction can bring another one."""
    high: int
    """What `low` becomes when every transaction before `xid` has ended."""
    xid: int
    suspects: tuple[int, ...] = ()
    """Solves that were not covered when they were seen."""
    since: int = 0
    """The token of the look that saw them."""
    missed: int = 0
    """How many solves without an event were found so far."""


class _Look(NamedTuple):
    """What a snapshot shows."""

    ended: int
    """All transactions before this one had ended."""
    begun: int
    """No transaction from this one on had begun."""
    top: int
    """The largest id that was read."""
    uncovered: list[int]
    """Solves above the watermark, or a little below, that nothing covers."""


class Watch:
    """Answers `MissedSolves`."""

    def __init__(self, redis: Redis, database: Database, *, grace: float = GRACE) -> None:
        """`grace` is how long an event may take from its commit to its publishing, in seconds."""
        self._redis = redis
        self._database = database
        self._grace = int(grace * SECOND)

    async def begin(self, connection: AsyncConnection) -> Answer:
        """Return where the watch begins, if it has no watermark: at the end of this snapshot.

        The answer must be written together with marks for everything that is in the snapshot.
        """
        if await self._watermark() is not None:
            return Answer({})
        look = await self._look(connection, None)
        watermark = Watermark(low=look.top, high=look.top, xid=look.begun)
        return _answer(watermark, [Covered(solve) for solve in look.uncovered])

    async def perform(
        self, wanted: Sequence[MissedSolves], attempt: Attempt
    ) -> Mapping[MissedSolves, Answer]:
        """Look once; hand on the suspects that have been so for long enough."""
        before = await self._watermark()
        if before is None:
            answer = Answer({}, [Mark(Reconcile())])  # which begins it
        else:
            async with self._database.snapshot() as connection:
                answer = await self._looked(before, attempt, connection)
        return dict.fromkeys(wanted, answer)

    async def _looked(
        self, before: Watermark, attempt: Attempt, connection: AsyncConnection
    ) -> Answer:
        await self._redis.zremrangebyscore(keys.COVERED, 0, before.low - OVERLAP)
        look = await self._look(connection, before)
        if look.top < before.low:  # deleted, or a database from before, which uses ids again
            await self._redis.zremrangebyscore(keys.COVERED, f"({look.top}", "+inf")
        if not await self._is_ripe(before, attempt):
            return _answer(_moved(before, look, _waiting(before, look), attempt), ())
        missed = await self._missed(before, connection)
        records = await _as_if_events_had_come(missed, connection)
        found = {record.submission_id for record in records if isinstance(record, Covered)}
        look = look._replace(uncovered=[each for each in look.uncovered if each not in found])
        after = _moved(before, look, (), attempt)
        return _answer(msgspec.structs.replace(after, missed=before.missed + len(found)), records)

    async def _watermark(self) -> Watermark | None:
        raw: Any = await self._redis.get(keys.WATERMARK)
        return None if raw is None else msgspec.json.decode(raw, type=Watermark)

    async def _look(self, connection: AsyncConnection, before: Watermark | None) -> _Look:
        ended, begun, top = (await connection.execute(_TRANSACTIONS)).one()
        low = top if before is None else min(before.low, top)
        parameters = {"low": low - OVERLAP, "limit": READ_AT_ONCE}
        solves = list((await connection.execute(_SOLVES, parameters)).scalars())
        if len(solves) == READ_AT_ONCE:
            top = solves[-1]
        return _Look(ended, begun, top, await self._uncovered(solves))

    async def _uncovered(self, solves: Sequence[int]) -> list[int]:
        if not solves:
            return []
        scores = await self._redis.zmscore(keys.COVERED, [str(solve) for solve in solves])
        return [solve for solve, score in zip(solves, scores, strict=True) if score is None]

    async def _is_ripe(self, before: Watermark, attempt: Attempt) -> bool:
        """Say whether every event of the suspects has been accepted, if there ever was one."""
        published = before.since + self._grace
        return published <= min(attempt.token, await settled_until(self._redis))

    async def _missed(
        self, before: Watermark, connection: AsyncConnection
    ) -> Sequence[sa.Row[Any]]:
        """Return the suspects that still are, and are still there."""
        solves = await self._uncovered(before.suspects)
        return await rows(connection, _SUSPECTS, {"solves": solves}) if solves else ()


def _waiting(before: Watermark, look: _Look) -> tuple[int, ...]:
    """Return the suspects that are not covered yet, or that the look no longer reached."""
    reached, uncovered = before.low - OVERLAP, set(look.uncovered)
    return tuple(solve for solve in before.suspects if solve in uncovered or solve <= reached)


def _moved(before: Watermark, look: _Look, waiting: tuple[int, ...], attempt: Attempt) -> Watermark:
    """Return the watermark after a look; `waiting` are the suspects that remain so.

    It never goes back, or it would come to solves that are no longer remembered as covered:
    unless the database did.
    """
    high, xid, low = before.high, before.xid, before.low
    if look.ended >= before.xid:
        low = max(low, min([high, *(each - 1 for each in look.uncovered if each > low)]))
        high, xid = look.top, look.begun
    return Watermark(
        low=min(low, look.top),
        high=high,
        xid=xid,
        suspects=waiting or tuple(look.uncovered[:SUSPECTS_AT_ONCE]),
        since=before.since if waiting else attempt.token,
        missed=before.missed,
    )


async def _as_if_events_had_come(
    missed: Sequence[sa.Row[Any]], connection: AsyncConnection
) -> Sequence[Record]:
    handler = handler_of(ChallengeSolve)
    if not missed or handler is None:
        return ()
    log.warning(
        "solves of which no event told", extra={"solves": len(missed), "first": missed[0].id}
    )
    events = [ChallengeSolve(each.user_id, each.challenge_id) for each in missed]
    return list(await handler(events, _Snapshot(connection)))


def _answer(watermark: Watermark, records: Sequence[Record]) -> Answer:
    return Answer({keys.WATERMARK: msgspec.to_builtins(watermark)}, records)


class _Snapshot:
    """A handler's view of the snapshot that is open."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def rows(
        self, statement: sa.Select[Any], parameters: Mapping[str, Any]
    ) -> Sequence[sa.Row[Any]]:
        return await rows(self._connection, statement, parameters)


_TRANSACTIONS = sa.text(
    "SELECT pg_snapshot_xmin(now.snapshot)::text::bigint,"
    " pg_snapshot_xmax(now.snapshot)::text::bigint,"
    " coalesce((SELECT max(id) FROM submissions), 0)"
    " FROM (SELECT pg_current_snapshot() AS snapshot) AS now"
)
_is_solve = sa.and_(submissions.c.type == "correct", submissions.c.user_id.is_not(None))
_SOLVES = (
    sa.select(submissions.c.id)
    .where(submissions.c.id > sa.bindparam("low", type_=sa.Integer), _is_solve)
    .order_by(submissions.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_SUSPECTS = sa.select(submissions.c.id, submissions.c.user_id, submissions.c.challenge_id).where(
    among(submissions.c.id, "solves"), _is_solve
)
