"""Drift: cached values that are wrong, and that no event will put right.

There should be none, so that each is a bug to be seen, here or in the web application. In idle
time all cached values are compared in rotation with computed ones. A difference is a suspicion
until everything that was published for some seconds from then on has been accepted; if the value
still is what it was, and nobody owes it, it has drifted. Then it is counted, logged and marked.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, ClassVar

import msgspec
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators.catalog import is_statistic
from statsd.calculators.crews import Crews
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.scoreboard import Scoreboard
from statsd.consistency.compare import Comparison, Difference, Verdict
from statsd.consistency.existing import every_statistic
from statsd.consistency.in_flight import Wait, intake
from statsd.consistency.saved_state import remembered
from statsd.job import Job, Priority, known, register_kind
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import SECOND, Answer, Attempt
from statsd.servers.database import Database

log = logging.getLogger(__name__)

PAGE = 20  # refreshes compared in one step, at the most
LONGEST_STEP = 10.0  # seconds of comparing one by one; an answer over a minute old is refused
LONGEST_COMPARISON = 5.0  # seconds, for a page or for one
SCANNED_AT_ONCE = 200  # names read from Redis at once, about
GRACE = 10.0  # seconds; solves without an event are found sooner than that
SHARE = 0.02  # of one core's time, at the most, for comparing


class Audit(Job, frozen=True):
    """Compare a few more values."""

    kind: ClassVar[str] = "audit"
    priority: ClassVar[Priority] = Priority.IDLE


register_kind(Audit)


class Suspect(msgspec.Struct, frozen=True):
    """A refresh whose values differed."""

    wait: Wait
    """For the events of the moment at which it was seen."""
    as_ofs: str
    """A digest of what its values' stamps were."""


class Rotation(msgspec.Struct, frozen=True):
    """How far the audit has come. It is the value of the refresh, written as any other."""

    cursor: str = "0"
    """Where the next names are read."""
    left: tuple[str, ...] = ()
    """Names that were read and not compared yet."""
    suspects: Mapping[str, Suspect] = {}
    stepped: int = 0
    """When the last step began, in scheduling time."""
    pause: int = 0
    """For how many microseconds from then on nothing is compared, for what that step took."""
    compared: int = 0
    rounds: int = 0
    """How often all values were compared."""
    drift: Mapping[str, int] = {}
    """How many values had drifted, by kind."""


class Auditor:
    """Answers `Audit`."""

    def __init__(
        self,
        redis: Redis,
        database: Database,
        *,
        refill: bool,
        grace: float = GRACE,
        share: float = SHARE,
    ) -> None:
        """Without `refill` absent values stay absent (SKIP_COLD_START).

        `grace` is how long, in seconds, an event may take to be published; `share` is how much
        of the time may go into comparing.
        """
        self._redis = redis
        self._database = database
        self._comparison = Comparison(redis, database)
        self._refill = refill
        self._grace = int(grace * SECOND)
        self._share = share

    async def execute(self, wanted: Sequence[Audit], attempt: Attempt) -> Mapping[Audit, Answer]:
        """Judge those who have been suspect for long enough, and compare some more."""
        before = await remembered(self._redis, keys.AUDIT, Rotation) or Rotation()
        if 0 <= attempt.moment - before.stepped < before.pause:
            return dict.fromkeys(wanted, _answer(before, ()))
        began = monotonic()
        suspects, drifted = await self._judged(before, attempt)
        after = await self._compared(before, suspects, attempt)
        cost = (monotonic() - began) * SECOND
        after = msgspec.structs.replace(
            after,
            stepped=attempt.moment,
            pause=int(cost / self._share),
            drift=dict(Counter(before.drift) + Counter(each.kind for each in drifted)),
        )
        return dict.fromkeys(wanted, _answer(after, drifted))

    async def _judged(
        self, before: Rotation, attempt: Attempt
    ) -> tuple[dict[str, Suspect], list[Job]]:
        """Return who remains suspect, and who has drifted.

        Those have to differ still: a dojo may have come and gone before it was computed once,
        and what is not in the cache has no stamp that would show it.
        """
        seen = await intake(self._redis)
        remaining, due = {}, {}
        for name, suspect in before.suspects.items():
            wait = suspect.wait.go_on(seen, self._grace)
            if wait.is_over(seen):
                due[name] = suspect.as_ofs
            else:
                remaining[name] = Suspect(wait, suspect.as_ofs)
        verdicts = await self._comparison.verdicts(due) if due else {}
        guilty = list(known(name for name, each in verdicts.items() if each is Verdict.DRIFTED))
        differences, compared = await self._differences(guilty, attempt)
        remaining |= {each.name: before.suspects[each.name] for each in guilty[compared:]}
        drifted = [difference.job for difference in differences]
        for job in drifted:
            log.error("a cached value had drifted; computing it anew", extra={"job": job.name})
        return remaining, drifted

    async def _compared(
        self, before: Rotation, suspects: dict[str, Suspect], attempt: Attempt
    ) -> Rotation:
        """Compare the next few, and read more names where there are none left."""
        cursor, left, rounds = before.cursor, before.left, before.rounds
        if not left:
            cursor, left = await self._names(cursor)
            rounds += cursor == "0"
        page = [each for each in known(left[:PAGE]) if is_statistic(each)]
        differences, compared = await self._differences(page, attempt)
        if differences:
            wait = Wait((await intake(self._redis)).moment)
            found = {each.job.name: Suspect(wait, each.as_ofs) for each in differences}
            suspects = found | suspects
        unread = [each.name for each in page[compared:]]
        return msgspec.structs.replace(
            before,
            cursor=cursor,
            left=(*unread, *left[PAGE:]),
            suspects=suspects,
            compared=before.compared + compared,
            rounds=rounds,
        )

    async def _differences(
        self, wanted: Sequence[Job], attempt: Attempt
    ) -> tuple[list[Difference], int]:
        """Compare all at once or, where that takes too long, as many as there is time for.

        Return what differs, and how many were compared.
        """
        differences = await self._in_good_time(wanted, attempt)
        if differences is not None:
            return differences, len(wanted)
        differences, began = [], monotonic()
        for compared, job in enumerate(wanted):
            if compared and monotonic() - began > LONGEST_STEP:
                return differences, compared
            differences += await self._in_good_time([job], attempt) or []
        return differences, len(wanted)

    async def _in_good_time(
        self, wanted: Sequence[Job], attempt: Attempt
    ) -> list[Difference] | None:
        """Compare; None where it takes too long.

        What cannot be computed in good time is its own refresh's business; what was deleted or
        evicted is the sweep's (`statsd/sweep.py`), and no drift.
        """
        try:
            async with asyncio.timeout(LONGEST_COMPARISON) as limit:
                compared = await self._comparison.compare(wanted, attempt.now)
        except TimeoutError:
            if not limit.expired():
                raise
            log.debug("took too long to audit", extra={"jobs": len(wanted)})
            return None
        for job, error in compared.failures:
            log.debug("could not be audited", extra={"job": job.name}, exc_info=error)
        return [
            each
            for each in compared.differences
            if not each.lost and (each.cached_before or self._refill)
        ]

    async def _names(self, cursor: str) -> tuple[str, tuple[str, ...]]:
        """Read names of what is cached; in the end, of what exists and is not."""
        reply: Any = await self._redis.hscan(keys.KEY_INDEX, int(cursor), count=SCANNED_AT_ONCE)
        following, found = reply
        names = [name.decode() for name in found]
        if not int(following) and self._refill:
            exist = [job.name for job in await every_statistic(self._database)]
            cached_before = await self._redis.hmget(keys.KEY_INDEX, exist) if exist else []
            names += [name for name, own in zip(exist, cached_before, strict=True) if own is None]
        return str(following), tuple(names)


def _answer(rotation: Rotation, drifted: Sequence[Job]) -> Answer:
    # Statistics and crews may have followed from boards that are wrong.
    boards = {Scoreboard(each.dojo_id) for each in drifted if isinstance(each, DojoStats | Crews)}
    jobs = [PendingJob(job, priority=Priority.ORDINARY) for job in (*drifted, *boards)]
    return Answer({keys.AUDIT: msgspec.to_builtins(rotation)}, jobs)
