"""The drift audit: the search for wrong cached values that no event will correct.

There should be none: each drifted value shows a bug, here or in the web application. In idle time
all cached values are compared in rotation with computed ones. A difference is a suspicion until
every event published within some seconds after it is accepted. If the value is unchanged by then,
and no job for it is pending, it has drifted: it is counted, logged and enqueued.
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
from statsd.consistency.reconcile import existing_statistics
from statsd.consistency.saved_state import load_state
from statsd.consistency.stream_position import AcceptanceWait, stream_position
from statsd.job import SECOND, Job, Priority, known, register_kind
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.pending import PendingJob
from statsd.servers.database import Database

log = logging.getLogger(__name__)

PAGE = 20  # jobs compared in one step, at the most
LONGEST_STEP = 10.0  # seconds of comparing one by one; an answer over a minute old is refused
LONGEST_COMPARISON = 5.0  # seconds, for a page or for one job
SCANNED_AT_ONCE = 200  # names read from Redis at once, about
GRACE = 10.0  # seconds; solves without an event are found sooner than that
SHARE = 0.02  # of one core's time, at the most, for comparing


class DriftAudit(Job, frozen=True):
    """Compare a few more values."""

    kind: ClassVar[str] = "audit"
    priority: ClassVar[Priority] = Priority.IDLE


register_kind(DriftAudit)


class Suspect(msgspec.Struct, frozen=True):
    """A job whose cached values differed from the computed ones."""

    wait: AcceptanceWait
    """Until the events of the comparison's moment are accepted."""
    digest: str
    """Of the as-ofs at the comparison, as in `compare.Cached`."""


class AuditState(msgspec.Struct, frozen=True):
    """The progress of the audit, stored as the value of its job."""

    cursor: str = "0"
    """Where the next names are read from the key index."""
    uncompared: tuple[str, ...] = ()
    """Names that were read and not compared yet."""
    suspects: Mapping[str, Suspect] = {}
    step_began: int = 0
    """When the last step began, in scheduling time."""
    pause: int = 0
    """Microseconds from `step_began` without comparing, in proportion to the cost of the step."""
    compared: int = 0
    rounds: int = 0
    """How often all values were compared."""
    drift: Mapping[str, int] = {}
    """The number of drifted values, by kind."""


class DriftAuditor:
    """Executes `DriftAudit`."""

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

        `grace` is the time, in seconds, for an event to be published; `share` is the part of the
        time that comparing may take.
        """
        self._redis = redis
        self._database = database
        self._comparison = Comparison(redis, database)
        self._refill = refill
        self._grace = int(grace * SECOND)
        self._share = share

    async def execute(
        self, wanted: Sequence[DriftAudit], attempt: Attempt
    ) -> Mapping[DriftAudit, Answer]:
        """Judge the suspects whose wait is over, and compare the next page."""
        before = await load_state(self._redis, keys.AUDIT, AuditState) or AuditState()
        if 0 <= attempt.moment - before.step_began < before.pause:
            return dict.fromkeys(wanted, _answer(before, ()))
        began = monotonic()
        suspects, drifted = await self._judge(before, attempt)
        after = await self._compare_page(before, suspects, attempt)
        cost = (monotonic() - began) * SECOND
        after = msgspec.structs.replace(
            after,
            step_began=attempt.moment,
            pause=int(cost / self._share),
            drift=dict(Counter(before.drift) + Counter(job.kind for job in drifted)),
        )
        return dict.fromkeys(wanted, _answer(after, drifted))

    async def _judge(
        self, before: AuditState, attempt: Attempt
    ) -> tuple[dict[str, Suspect], list[Job]]:
        """Return the remaining suspects, and the jobs whose values have drifted.

        Before a value counts as drifted it is compared once more. The digest of a job without
        cached values never changes, so it would not show that a dojo was created and deleted.
        """
        position = await stream_position(self._redis)
        remaining, due = {}, {}
        for name, suspect in before.suspects.items():
            wait = suspect.wait.updated(position, self._grace)
            if wait.is_over(position):
                due[name] = suspect.digest
            else:
                remaining[name] = Suspect(wait, suspect.digest)
        verdicts = await self._comparison.verdicts(due) if due else {}
        found = list(known(name for name, each in verdicts.items() if each is Verdict.DRIFTED))
        differences, compared = await self._differences(found, attempt)
        remaining |= {job.name: before.suspects[job.name] for job in found[compared:]}
        drifted = [difference.job for difference in differences]
        for job in drifted:
            log.error("a cached value had drifted; computing it anew", extra={"job": job.name})
        return remaining, drifted

    async def _compare_page(
        self, before: AuditState, suspects: dict[str, Suspect], attempt: Attempt
    ) -> AuditState:
        """Compare the next page; read more names first if none are left."""
        cursor, names, rounds = before.cursor, before.uncompared, before.rounds
        if not names:
            cursor, names = await self._names(cursor)
            rounds += cursor == "0"
        page = [job for job in known(names[:PAGE]) if is_statistic(job)]
        differences, compared = await self._differences(page, attempt)
        if differences:
            wait = AcceptanceWait((await stream_position(self._redis)).moment)
            found = {each.job.name: Suspect(wait, each.digest) for each in differences}
            suspects = found | suspects
        uncompared = [job.name for job in page[compared:]]
        return msgspec.structs.replace(
            before,
            cursor=cursor,
            uncompared=(*uncompared, *names[PAGE:]),
            suspects=suspects,
            compared=before.compared + compared,
            rounds=rounds,
        )

    async def _differences(
        self, wanted: Sequence[Job], attempt: Attempt
    ) -> tuple[list[Difference], int]:
        """Compare all jobs at once or, if that takes too long, one by one within LONGEST_STEP.

        Return the differences, and the number of jobs compared.
        """
        differences = await self._compare_in_time(wanted, attempt)
        if differences is not None:
            return differences, len(wanted)
        differences, began = [], monotonic()
        for compared, job in enumerate(wanted):
            if compared and monotonic() - began > LONGEST_STEP:
                return differences, compared
            differences += await self._compare_in_time([job], attempt) or []
        return differences, len(wanted)

    async def _compare_in_time(
        self, wanted: Sequence[Job], attempt: Attempt
    ) -> list[Difference] | None:
        """Compare; return None if it takes longer than LONGEST_COMPARISON.

        Jobs that cannot be computed in time are left to their own retries. Deleted and evicted
        values are left to the sweep (`statsd/consistency/missing_keys.py`): they are no drift.
        """
        try:
            async with asyncio.timeout(LONGEST_COMPARISON) as limit:
                result = await self._comparison.compare(wanted, attempt.now)
        except TimeoutError:
            if not limit.expired():
                raise
            log.debug("the comparison took too long", extra={"jobs": len(wanted)})
            return None
        for job, error in result.failures:
            log.debug("a job could not be audited", extra={"job": job.name}, exc_info=error)
        return [
            each
            for each in result.differences
            if not each.all_missing and (each.cached_before or self._refill)
        ]

    async def _names(self, cursor: str) -> tuple[str, tuple[str, ...]]:
        """Read names of cached jobs; at the end of a round, also of jobs with no cached value."""
        reply: Any = await self._redis.hscan(keys.KEY_INDEX, int(cursor), count=SCANNED_AT_ONCE)
        following, found = reply
        names = [name.decode() for name in found]
        if not int(following) and self._refill:
            existing = [job.name for job in await existing_statistics(self._database)]
            indexed = await self._redis.hmget(keys.KEY_INDEX, existing) if existing else []
            names += [name for name, raw in zip(existing, indexed, strict=True) if raw is None]
        return str(following), tuple(names)


def _answer(state: AuditState, drifted: Sequence[Job]) -> Answer:
    # Drifted statistics and crews may have followed from wrong boards.
    boards = {Scoreboard(each.dojo_id) for each in drifted if isinstance(each, DojoStats | Crews)}
    jobs = [PendingJob(job, priority=Priority.ORDINARY) for job in (*drifted, *boards)]
    return Answer({keys.AUDIT: msgspec.to_builtins(state)}, jobs)
