"""A daemon's parts in the test's own process, which work when they are told to."""

import math
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis

import statsd.handlers  # noqa: F401 - registers them
from statsd import keys
from statsd.boards.executors import statistics_of
from statsd.boards.live_boards import LiveBoards
from statsd.calculators.user_entries import UserEntries
from statsd.consistency.drift_audit import Audit, Auditor, Rotation
from statsd.consistency.missed_solves import MissedSolves, MissedSolvesFinder, Watermark
from statsd.consistency.reconcile import Reconcile, Reconciler
from statsd.job import microseconds, parse
from statsd.jobs.parts import Parts as AnswersInParts, at_once
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import SECOND, Answer, LeaseRequest, Queue
from statsd.jobs.wakeup import WakeUp
from statsd.jobs.worker import GONE, Executor
from statsd.servers.database import Database
from statsd.servers.docker import Containers, Engines
from statsd.stream.consumer import Consumer
from statsd.stream.event_stream import Stream

CLOCK = f"{keys.INTERNAL}clock"

NO_STATISTICS = {
    Audit.kind,
    Containers.kind,
    MissedSolves.kind,
    Reconcile.kind,
    UserEntries.kind,
}

State = TypeVar("State", Watermark, Rotation)


async def together(parts: AnswersInParts) -> dict[Any, Answer]:
    """Return the answers of all parts."""
    return {job: answer async for part in parts for job, answer in part.items()}


class Parts:
    """A consumer, and one who answers; a watch and an audit that need not wait."""

    def __init__(
        self, cache: Redis, database: Database, *, refill: bool = True, grace: float = 0
    ) -> None:
        self.cache = cache
        self.database = database
        self.queue = Queue(cache, "one", lease=30, dead_limit=10)
        self.stream = Stream(cache, cache, "one", block=0.05, dead_limit=10)
        self.consumer = Consumer(self.stream, self.queue, database, WakeUp(), batch_size=500)
        watch = MissedSolvesFinder(cache, database, grace=grace)
        reconciler = Reconciler(self.queue, database, only_present=not refill)
        auditor = Auditor(cache, database, refill=refill, grace=grace, share=math.inf)
        self.boards = LiveBoards(cache, database)
        self._executors = statistics_of(self.boards, database)
        self._executors |= {
            Containers.kind: Executor(at_once(Engines(()).execute), batch=1),
            Reconcile.kind: Executor(at_once(reconciler.execute), batch=1),
            MissedSolves.kind: Executor(at_once(watch.execute), batch=1),
            Audit.kind: Executor(at_once(auditor.execute), batch=1),
        }
        self._batches = {kind: each.batch for kind, each in self._executors.items()}

    async def start(self) -> None:
        """Make the group, reconcile, and answer all that is owed for it."""
        await self.consumer.recover()
        await self.queue.enqueue([PendingJob(MissedSolves())])
        await self.answer()

    async def answer(self, kinds: Collection[str] = ()) -> set[str]:
        """Answer what is due, until nothing is; return the names of the statistics.

        With `kinds` only what is of these.
        """
        statistics: set[str] = set()
        batches = {
            kind: batch for kind, batch in self._batches.items() if not kinds or kind in kinds
        }
        while attempt := (await self.queue.lease(LeaseRequest(batches))).attempt:
            jobs = [parse(name) for name in attempt.names]
            kind = jobs[0].kind
            found = await together(self._executors[kind].execute(jobs, attempt))
            answers = (found.get(each, GONE) for each in jobs)
            await self.queue.complete(attempt, dict(zip(attempt.names, answers, strict=True)))
            if kind not in NO_STATISTICS:
                statistics.update(attempt.names)
        return statistics

    async def look(self) -> set[str]:
        """Look for missed solves; return what became stale, which is answered."""
        await self.queue.enqueue([PendingJob(MissedSolves())])
        return await self.answer()

    async def audit(self) -> set[str]:
        """Compare; return what had drifted, which is answered."""
        await self.queue.enqueue([PendingJob(Audit())])
        return await self.answer()

    async def consume(self) -> None:
        """Accept what was published, and answer it."""
        while await self.cache.xlen(keys.STREAM):
            await self.consumer.step()
        await self.answer()

    async def move(self, moment: datetime) -> None:
        """Let it be that moment (naive UTC), which is to come: the clock gives no earlier token."""
        await self.now()
        await self.cache.hset(CLOCK, "last", str(microseconds(moment)))

    async def now(self) -> datetime:
        """Return the newest token as a moment, naive UTC."""
        await self.queue.enqueue([])
        last: Any = await self.cache.hget(CLOCK, "last")
        return datetime.fromtimestamp(int(last) / SECOND, UTC).replace(tzinfo=None)

    async def watermark(self) -> Watermark:
        return await self._state(keys.WATERMARK, Watermark)

    async def rotation(self) -> Rotation:
        return await self._state(keys.AUDIT, Rotation)

    async def _state(self, key: str, kind: type[State]) -> State:
        raw: Any = await self.cache.get(key)
        return msgspec.json.decode(raw, type=kind)
