"""The drift audit: the search for wrong cached values that no event will correct.

There should be none: each drifted value shows a bug, here or in the web application. In idle time
all cached values are compared in rotation with computed ones; the arrays of a dojo are compared
with its state, and the state with the database (`statsd/consistency/dojo_audit.py`). A difference
is a suspicion until every event published within some seconds after it is accepted. If the value is
unchanged by then, and no job for it is pending, it has drifted: it is counted, logged and enqueued.

An array made from a wrong state would be wrong again. So whatever of a dojo has drifted, its state
is marked as wrong, and a whole pass builds it anew.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, ClassVar

import msgspec
from redis.asyncio import Redis

from statsd import keys, scripts
from statsd.calculators.catalog import is_statistic
from statsd.calculators.dojo_arrays import Boards, Exports
from statsd.calculators.dojo_check import DojoCheck, RecordsCheck
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.user_entries import UserEntries
from statsd.consistency.compare import Comparison, Difference, Verdict
from statsd.consistency.dojo_audit import (
    ARRAY,
    DONE,
    OF_DATABASE,
    OF_NAMES,
    DojoAudit,
    Suspicion,
    Walk,
)
from statsd.consistency.reconcile import existing_statistics
from statsd.consistency.saved_state import load_state
from statsd.consistency.stream_position import AcceptanceWait, stream_position
from statsd.job import SECOND, Job, Priority, known, register_kind
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.pending import PendingJob
from statsd.servers.database import Database
from statsd.servers.errors import is_outage

log = logging.getLogger(__name__)

PAGE = 20  # jobs compared in one step, at the most
LONGEST_STEP = 10.0  # seconds of comparing one by one; an answer over a minute old is refused
LONGEST_WALK = 0.1  # seconds of comparing dojos in one step, about; suspects wait for its pause
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
    digest: str = ""
    """Of the as-ofs at the comparison, as in `compare.Cached`."""
    findings: tuple[Suspicion, ...] = ()
    """Of a dojo: what differed."""


class AuditState(msgspec.Struct, frozen=True):
    """The progress of the audit, stored as the value of its job."""

    cursor: str = "0"
    """Where the next names are read from the key index."""
    uncompared: tuple[str, ...] = ()
    """Names that were read and not compared yet."""
    walk: Walk | None = None
    """How far the first dojo among them is compared."""
    judged: Walk | None = None
    """How far a dojo is compared once more that is suspect."""
    suspects: Mapping[str, Suspect] = {}
    step_began: int = 0
    """When the last step began, in scheduling time."""
    pause: int = 0
    """Microseconds from `step_began` without comparing, in proportion to the cost of the step."""
    compared: int = 0
    rounds: int = 0
    """How often all values were compared."""
    drift: Mapping[str, int] = {}
    """The number of drifted values, by kind; each dojo with a wrong state counts once."""


class _Step:
    """One step: what has changed since the state before it, and how long it has taken."""

    def __init__(self, before: AuditState, attempt: Attempt) -> None:
        self.attempt = attempt
        self.suspects = dict(before.suspects)
        self.walk, self.judged = before.walk, before.judged
        self.drifted: list[Job] = []
        self.findings: dict[int, Sequence[Suspicion]] = {}
        """By dojo, what has drifted."""
        self._began = self._walks_began = monotonic()

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return monotonic() - self._began

    def begin_walks(self) -> None:
        """Begin to compare dojos."""
        self._walks_began = monotonic()

    @property
    def is_late(self) -> bool:
        """Whether no further part of a dojo is compared."""
        return monotonic() - self._walks_began > LONGEST_WALK


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
        self._dojos = DojoAudit(redis, database, refill=refill)
        self._doubt = redis.register_script(scripts.source("consistency/doubt"))
        self._refill = refill
        self._grace = int(grace * SECOND)
        self._share = share

    async def execute(
        self, wanted: Sequence[DriftAudit], attempt: Attempt
    ) -> Mapping[DriftAudit, Answer]:
        """Judge the suspects whose wait is over, and compare the next page."""
        before = await load_state(self._redis, keys.AUDIT, AuditState) or AuditState()
        if 0 <= attempt.moment - before.step_began < before.pause:
            return dict.fromkeys(wanted, _answer(before, None))
        step = _Step(before, attempt)
        await self._judge(step)
        after = await self._compare_page(before, step)
        doubtful = [str(dojo_id) for dojo_id in _dojos_of(step.drifted)]
        if doubtful:
            await self._doubt(args=[scripts.encode({"dojos": doubtful})])
        after = msgspec.structs.replace(
            after,
            suspects=step.suspects,
            walk=step.walk,
            judged=step.judged,
            step_began=attempt.moment,
            pause=int(step.seconds * SECOND / self._share),
            drift=dict(Counter(before.drift) + Counter(job.kind for job in step.drifted)),
        )
        return dict.fromkeys(wanted, _answer(after, step))

    async def _judge(self, step: _Step) -> None:
        """Judge the suspects whose wait is over: leave only the others, and find the drifted.

        Before a value counts as drifted it is compared once more. The digest of a job without
        cached values never changes, so it would not show that a dojo was created and deleted.
        """
        position = await stream_position(self._redis)
        due: dict[str, Suspect] = {}
        for name, suspect in step.suspects.items():
            wait = suspect.wait.updated(position, self._grace)
            step.suspects[name] = msgspec.structs.replace(suspect, wait=wait)
            if wait.is_over(position):
                due[name] = suspect
        digests = {name: each.digest for name, each in due.items() if not each.findings}
        verdicts = await self._comparison.verdicts(digests) if digests else {}
        found = list(known(name for name, each in verdicts.items() if each is Verdict.DRIFTED))
        differences, compared = await self._differences(found, step.attempt)
        for name in digests.keys() - {job.name for job in found[compared:]}:
            del step.suspects[name]
        step.drifted = [difference.job for difference in differences]
        for job in step.drifted:
            log.error("a cached value had drifted; computing it anew", extra={"job": job.name})
        dojos = [job for job in known(due) if isinstance(job, Boards) and due[job.name].findings]
        begun = step.judged.dojo_id if step.judged else None
        dojos.sort(key=lambda job: job.dojo_id != begun)
        step.begin_walks()
        for judged, job in enumerate(dojos):
            if (judged or compared) and step.is_late:
                return
            await self._judge_dojo(job, due[job.name].findings, step)

    async def _judge_dojo(self, job: Boards, suspected: Sequence[Suspicion], step: _Step) -> None:
        """Compare a dojo once more; what is found again, unchanged, has drifted."""
        suspected = await self._not_pending(job, suspected)
        if not suspected:
            del step.suspects[job.name]
            step.judged = None
            return
        walk = step.judged if step.judged and step.judged.dojo_id == job.dojo_id else None
        walk = await self._walked(walk or Walk(job.dojo_id), step)
        if walk.stage != DONE:
            step.judged = walk
            return
        del step.suspects[job.name]
        step.judged = None
        again = [each for each in walk.findings if each in suspected]
        drifted = await self._not_pending(job, again)
        if drifted:
            step.drifted.append(job)
            step.findings[job.dojo_id] = drifted
            texts = sorted({f"{each.what} {each.where}".strip() for each in drifted})
            log.error(
                "the state of a dojo had drifted; building it anew",
                extra={"job": job.name, "found": texts},
            )

    async def _not_pending(self, job: Boards, findings: Sequence[Suspicion]) -> list[Suspicion]:
        """Return those findings that no pending job will correct."""
        if not findings:
            return []
        of_dojo: set[type[Job]] = set()
        users: dict[int, set[str]] = {}
        for each in known(await self._comparison.pending_names()):
            if isinstance(each, UserEntries):
                users.setdefault(each.dojo_id, set()).add(str(each.user_id))
            elif getattr(each, "dojo_id", None) == job.dojo_id:
                of_dojo.add(type(each))
        own = users.get(job.dojo_id, set())
        every = {user for some in users.values() for user in some}

        def is_pending(finding: Suspicion) -> bool:
            if Boards in of_dojo:
                return True
            if finding.what == ARRAY:
                return Exports in of_dojo or bool(own)
            if finding.what in OF_NAMES:
                return finding.where in every
            if finding.what in OF_DATABASE:
                return bool(of_dojo & {DojoCheck, RecordsCheck}) or finding.where in own
            return False  # what follows from records is moved together with them

        return [each for each in findings if not is_pending(each)]

    async def _walked(self, walk: Walk, step: _Step) -> Walk:
        """Compare a dojo, one step at least, until it is done or the time is up."""
        while walk.stage != DONE:
            try:
                async with asyncio.timeout(LONGEST_COMPARISON) as limit:
                    await self._dojos.step(walk)
            except Exception as error:
                if is_outage(error) and not limit.expired():
                    raise
                # It is left to the retries of its own jobs.
                name = Boards(walk.dojo_id).name
                level = logging.WARNING if limit.expired() else logging.DEBUG
                log.log(level, "a dojo could not be audited", extra={"job": name}, exc_info=error)
                walk.stage = DONE
            if step.is_late:
                break
        return walk

    async def _compare_page(self, before: AuditState, step: _Step) -> AuditState:
        """Compare the next page; read more names first if none are left."""
        cursor, names, rounds = before.cursor, before.uncompared, before.rounds
        if not names:
            cursor, names = await self._names(cursor)
            rounds += cursor == "0"
        page = [job for job in known(names[:PAGE]) if is_statistic(job)]
        others = [job for job in page if not isinstance(job, Boards)]
        wait = AcceptanceWait((await stream_position(self._redis)).moment)
        differences, compared = await self._differences(others, step.attempt)
        found = {each.job.name: Suspect(wait, each.digest) for each in differences}
        left = others[compared:]
        step.begin_walks()
        has_walked = False
        for job in page:
            if isinstance(job, Boards) and (compared or has_walked) and step.is_late:
                left.append(job)
            elif isinstance(job, Boards):
                has_walked = True
                walk = step.walk if step.walk and step.walk.dojo_id == job.dojo_id else None
                walk = await self._walked(walk or Walk(job.dojo_id), step)
                is_done = walk.stage == DONE
                step.walk = None if is_done else walk
                left += [] if is_done else [job]
                compared += is_done
                if is_done and walk.findings:
                    found[job.name] = Suspect(wait, findings=tuple(walk.findings))
        step.suspects = found | step.suspects
        return msgspec.structs.replace(
            before,
            cursor=cursor,
            uncompared=(*(job.name for job in left), *names[PAGE:]),
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


def _dojos_of(drifted: Sequence[Job]) -> set[int]:
    """Return the dojos whose state is wrong, or may be: their statistics follow from it."""
    return {job.dojo_id for job in drifted if isinstance(job, Boards | DojoStats)}


def _answer(state: AuditState, step: _Step | None) -> Answer:
    jobs: dict[Job, None] = {}
    if step:
        names = [
            UserEntries(dojo_id, int(each.where))
            for dojo_id, findings in step.findings.items()
            for each in findings
            if each.what in OF_NAMES
        ]
        boards = [Boards(dojo_id) for dojo_id in _dojos_of(step.drifted)]
        # A whole pass stores only the names that the daemon does not know to be stored.
        jobs = dict.fromkeys([*step.drifted, *boards, *names])
    pending = [PendingJob(job, priority=Priority.ORDINARY) for job in jobs]
    return Answer({keys.AUDIT: msgspec.to_builtins(state)}, pending)
