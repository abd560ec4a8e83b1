"""A daemon's parts in the test's own process. They work only when the test calls them."""

import math
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis

import statsd.handlers  # noqa: F401 - registers them
from statsd import keys
from statsd.boards.executors import statistics_of
from statsd.boards.live_boards import LiveBoards
from statsd.calculators import Cost
from statsd.calculators.dojo_arrays import Exports
from statsd.calculators.dojo_check import DojoCheck, RecordsCheck
from statsd.calculators.user_entries import UserEntries
from statsd.consistency.drift_audit import AuditState, DriftAudit, DriftAuditor
from statsd.consistency.missed_solves import MissedSolves, MissedSolvesFinder, Watermark
from statsd.consistency.reconcile import Reconcile, Reconciler
from statsd.job import SECOND, Job, microseconds, parse
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.executor import Executor
from statsd.jobs.parts import Parts as AnswersInParts, at_once
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import LeaseRequest, Queue
from statsd.jobs.replies import Leased
from statsd.jobs.wakeup import WakeUp
from statsd.jobs.worker import GONE
from statsd.servers.database import Database
from statsd.servers.docker import Containers, Engines
from statsd.stream.consumer import Consumer
from statsd.stream.event_stream import Stream

CLOCK = keys.CLOCK
HOUR = 3600  # seconds
LEASE = 300  # seconds

NO_STATISTICS = {
    DriftAudit.kind,
    Containers.kind,
    MissedSolves.kind,
    Reconcile.kind,
    DojoCheck.kind,
    Exports.kind,
    RecordsCheck.kind,
    UserEntries.kind,
}

State = TypeVar("State", Watermark, AuditState)


async def together(parts: AnswersInParts) -> dict[Any, Answer]:
    """Return the answers of all parts, merged."""
    return {job: answer async for part in parts for job, answer in part.items()}


class FrozenDelaysQueue(Queue):
    """A queue in which no delayed job becomes due, even if the test is slow."""

    async def lease(self, choice: LeaseRequest) -> Leased:
        """Lease due jobs, after moving the delayed ones an hour away."""
        delayed: Any = await self._redis.zrange(keys.DELAYED, 0, -1)
        if delayed:
            seconds, _ = await self._redis.time()
            await self._redis.zadd(keys.DELAYED, dict.fromkeys(delayed, (seconds + HOUR) * SECOND))
        return await super().lease(choice)


class Parts:
    """The consumer, the queue, and the executors of all kinds of jobs.

    The search for missed solves and the drift audit wait `grace` seconds for events. Delayed jobs
    stay delayed. With `refill=False` it is a daemon that skips the cold start.
    """

    def __init__(
        self, cache: Redis, database: Database, *, refill: bool = True, grace: float = 0
    ) -> None:
        self.cache = cache
        self.database = database
        self.queue = FrozenDelaysQueue(cache, "one", lease=LEASE, dead_limit=10)
        self.stream = Stream(cache, cache, "one", block=0.05, dead_limit=10)
        self.consumer = Consumer(self.stream, self.queue, database, WakeUp(), batch_size=500)
        finder = MissedSolvesFinder(cache, database, grace=grace)
        reconciler = Reconciler(self.queue, database, only_present=not refill)
        auditor = DriftAuditor(cache, database, refill=refill, grace=grace, share=math.inf)
        self.boards = LiveBoards(database)
        self._executors = statistics_of(cache, database, rest_factor=0)
        self._executors |= {
            Containers.kind: Executor(at_once(Engines(()).execute), Cost(batch=1)),
            Reconcile.kind: Executor(at_once(reconciler.execute), Cost(batch=1)),
            MissedSolves.kind: Executor(at_once(finder.execute), Cost(batch=1)),
            DriftAudit.kind: Executor(at_once(auditor.execute), Cost(batch=1)),
        }
        self._batches = {kind: each.cost.batch for kind, each in self._executors.items()}

    async def start(self) -> None:
        """Create the consumer group, and do the cold start."""
        await self.consumer.recover()
        await self.queue.enqueue([PendingJob(MissedSolves())])
        await self.answer()

    async def answer(self, kinds: Collection[str] = ()) -> set[str]:
        """Answer due jobs, of all kinds or of `kinds`, until none is due.

        Return the names of the answered statistics.
        """
        statistics: set[str] = set()
        batches = {
            kind: batch for kind, batch in self._batches.items() if not kinds or kind in kinds
        }
        while attempt := (await self.queue.lease(LeaseRequest(batches))).attempt:
            jobs = [parse(name) for name in attempt.names]
            found = await self.execute(jobs, attempt)
            answers = (found.get(each, GONE) for each in jobs)
            await self.queue.complete(attempt, dict(zip(attempt.names, answers, strict=True)))
            if attempt.kind not in NO_STATISTICS:
                statistics.update(attempt.names)
        return statistics

    async def execute(self, jobs: Sequence[Job], attempt: Attempt) -> dict[Any, Answer]:
        """Compute the answers of leased jobs, and do not complete them."""
        return await together(self._executors[attempt.kind].execute(jobs, attempt))

    async def search(self) -> set[str]:
        """Search for missed solves; return the names of the statistics computed for them."""
        await self.queue.enqueue([PendingJob(MissedSolves())])
        return await self.answer()

    async def audit(self) -> set[str]:
        """Run a drift audit; return the names of the statistics computed because of drift."""
        await self.queue.enqueue([PendingJob(DriftAudit())])
        return await self.answer()

    async def consume(self) -> None:
        """Consume the published events, and answer their jobs."""
        while await self.cache.xlen(keys.STREAM):
            await self.consumer.step()
        await self.answer()

    async def move(self, moment: datetime) -> None:
        """Set the clock to a moment in the future (naive UTC): later tokens are greater."""
        await self.now()
        await self.cache.hset(CLOCK, "last", str(microseconds(moment)))

    async def now(self) -> datetime:
        """Return the newest token as a moment, naive UTC."""
        await self.queue.enqueue([])
        last: Any = await self.cache.hget(CLOCK, "last")
        return datetime.fromtimestamp(int(last) / SECOND, UTC).replace(tzinfo=None)

    async def watermark(self) -> Watermark:
        """Return the state of the search for missed solves."""
        return await self._state(keys.WATERMARK, Watermark)

    async def audit_state(self) -> AuditState:
        """Return the state of the drift audit."""
        return await self._state(keys.AUDIT, AuditState)

    async def _state(self, key: str, kind: type[State]) -> State:
        raw: Any = await self.cache.get(key)
        return msgspec.json.decode(raw, type=kind)
