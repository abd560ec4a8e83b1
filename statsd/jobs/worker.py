"""The worker: lease due jobs, compute their answers on one snapshot, and complete them."""

import asyncio
import logging
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from time import monotonic

from statsd.errors import StatsdError
from statsd.job import Priority, parse
from statsd.jobs.attempt import Answer, Attempt, Completion
from statsd.jobs.bisect import bisect
from statsd.jobs.executor import Executor
from statsd.jobs.load_shedder import DEBOUNCE, LoadShedder
from statsd.jobs.parts import TimeSpent
from statsd.jobs.queue import LeaseRequest, Queue
from statsd.jobs.replies import Leased
from statsd.jobs.retry import with_jitter
from statsd.jobs.wakeup import Wakes, WakeUp
from statsd.observability.counters import Counters
from statsd.servers.errors import brief, is_transient

log = logging.getLogger(__name__)

SLOW = 1.0  # seconds
NAMED = 5  # jobs that a log line names, of a slow batch
LONGEST_NAP = 1.0  # seconds; other daemons enqueue jobs without waking this one


class StaleAnswerError(StatsdError):
    """An answer took over a minute and was refused; the batch is bisected and tried again."""


class Worker:
    """One of several equal loops, each with one transaction at a time."""

    def __init__(
        self,
        queue: Queue,
        executors: Mapping[str, Executor],
        wake_up: WakeUp,
        *,
        lease: float,
        retry_delays: Sequence[float],
        slow: float = SLOW,
        least: Priority = Priority.IDLE,
        others: Wakes | None = None,
        counters: Counters | None = None,
        load_shedder: LoadShedder | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """`executors` are by kind; `wake_up` wakes this worker.

        `lease` is in seconds, as are `retry_delays`, one for each attempt after the first, and
        `slow`, from which on a batch is logged as slow. With `others` this is the urgent worker: it
        leases the most urgent class first, without priority aging, leaves classes below `least` to
        the others, and wakes them before it sleeps. While `stopping()` it leases nothing ahead.
        """
        self._counters = counters or Counters()
        self._load_shedder = load_shedder or LoadShedder()
        self._slow = slow
        self._least = least
        self._others = others
        self._stopping = stopping
        self._queue = queue
        self._executors = executors
        self._batches = {kind: executor.cost.batch for kind, executor in executors.items()}
        self._large = [kind for kind, each in executors.items() if each.is_large]
        self._wake_up = wake_up
        self._lease = lease
        self._retry_delays = retry_delays
        self._leased: set[str] = set()
        self._ahead: Leased | None = None  # leased in the step that completed the last batch

    async def step(self) -> None:
        """Answer one batch, or sleep until a job may be due."""
        with self._load_shedder.permit(wanted=bool(self._large)) as large:
            attempt, more, wait = await self._next(may_be_large=large.is_valid)
            if more:
                (self._others or self._wake_up).wake()
            if attempt is None or attempt.kind not in self._large:
                large.release(used=False)
            if attempt is None:
                if self._others:
                    self._others.wake()
                await self._wake_up.sleep(LONGEST_NAP if wait is None else min(wait, LONGEST_NAP))
            else:
                self._leased = {*attempt.names}
                await self._answer(attempt)
                self._leased = set()

    async def _next(self, *, may_be_large: bool) -> Leased:
        """Return the jobs that were leased ahead; else lease due jobs."""
        leased, self._ahead = self._ahead, None
        return leased or await self._queue.lease(self._request(may_be_large=may_be_large))

    def _request(self, *, may_be_large: bool) -> LeaseRequest:
        return LeaseRequest(
            self._batches,
            self._least,
            DEBOUNCE,
            strict=self._others is not None or not may_be_large,
            shed=() if may_be_large else self._large,
        )

    async def recover(self) -> None:
        """Release all leases after a server was lost, which does not count as an attempt."""
        ahead = self._ahead.attempt if self._ahead else None
        names = [*self._leased, *(ahead.names if ahead else ())]
        if names:
            await self._queue.release(names)
        self._leased, self._ahead = set(), None

    async def _answer(self, leased: Attempt) -> None:
        async def work(names: Sequence[str]) -> None:
            left = tuple(name for name in names if name in self._leased)
            attempt = replace(leased, names=left)
            if left and left != leased.names:
                attempt = await self._queue.renew(attempt)  # each attempt has a token of its own
            if left:
                await self._attempt(attempt)

        async with self._renewing(leased):
            _, failures = await bisect(leased.names, work)
        for name, error in failures:
            await self._fail(replace(leased, names=(name,)), error)

    async def _attempt(self, attempt: Attempt) -> None:
        """Answer the jobs of an attempt, part by part, from a snapshot after its token.

        Completed jobs stay completed when a later part fails. A job without an answer refers to a
        deleted thing, so its keys are deleted.
        """
        began = monotonic()
        names = {parse(name): name for name in attempt.names}
        spent = TimeSpent(len(names))
        completed: list[Completion] = []
        try:
            async with aclosing(self._executors[attempt.kind].execute([*names], attempt)) as parts:
                async for found in parts:
                    answers = {names.pop(job): answer for job, answer in found.items()}
                    await self._complete(attempt, answers, spent, completed)
                    del found, answers  # their memory is free before the next part is computed
            await self._complete(attempt, dict.fromkeys(names.values(), GONE), spent, completed)
        finally:
            if completed:
                self._report(attempt, completed, monotonic() - began)

    async def _complete(
        self,
        attempt: Attempt,
        answers: Mapping[str, Answer],
        spent: TimeSpent,
        completed: list[Completion],
    ) -> None:
        """Complete a part of the jobs, and add the outcomes to `completed`.

        With its last part the urgent worker leases the jobs that are due then. Mostly they follow
        from this part, so that one round trip to Redis is saved.
        """
        if not answers:
            return
        took = spent.on(len(answers))
        cooldown = self._executors[attempt.kind].cooldown(took)
        if self._others and self._leased <= answers.keys() and not self._stopping():
            found, self._ahead = await self._queue.complete_and_lease(
                attempt,
                answers,
                self._request(may_be_large=False),
                took=took,
                cooldown=cooldown,
            )
        else:
            found = await self._queue.complete(attempt, answers, took=took, cooldown=cooldown)
        stale = {name for name, each in zip(answers, found, strict=True) if each.status == "stale"}
        self._leased -= answers.keys() - stale
        completed += [each for each in found if each.status != "stale"]
        if stale:
            raise StaleAnswerError
        spent.go_on()

    def _report(self, attempt: Attempt, completed: Sequence[Completion], seconds: float) -> None:
        kind = attempt.kind
        self._counters.answered(kind, completed, queued=attempt.queued, took=seconds)
        if attempt.events and kind not in self._large:
            self._load_shedder.add_load(len(completed))
        level = self._executors[kind].log_level
        fields = {
            "kind": kind,
            "jobs": len(completed),
            **Counter(each.status for each in completed),
            "unchanged": sum(each.unchanged for each in completed),
            "queue_milliseconds": round(attempt.queued * 1000, 1),
            "milliseconds": round(seconds * 1000, 1),
            "since_published_milliseconds": _longest(completed),
            **attempt.newest_event,
        }
        if seconds >= self._slow:
            self._counters.slow[kind] += len(completed)
            some = list(attempt.names[:NAMED])
            log.warning("jobs completed slowly", extra={"names": some, **fields})
        else:
            log.log(level, "jobs completed", extra=fields)

    @asynccontextmanager
    async def _renewing(self, attempt: Attempt) -> AsyncIterator[None]:
        """Renew the leases until the work ends."""
        over = asyncio.Event()  # not a cancellation: a client may swallow it

        async def renew() -> None:
            while not over.is_set():
                await self._queue.renew(replace(attempt, names=tuple(self._leased)))
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._lease / 3):
                        await over.wait()

        renewals: list[asyncio.Task[None]] = []

        def begin() -> None:
            renewals.append(asyncio.create_task(renew(), name="renew leases"))

        # Most batches end long before the first renewal, and a timer costs less than a task.
        timer = asyncio.get_running_loop().call_later(self._lease / 3, begin)
        try:
            yield
        finally:
            timer.cancel()
            over.set()
            failures = await asyncio.gather(*renewals, return_exceptions=True)
        for failure in filter(None, failures):
            raise failure  # the loop recovers; completed jobs stay completed

    async def _fail(self, attempt: Attempt, error: Exception) -> None:
        reason = {"error": brief(error), "traceback": "".join(traceback.format_exception(error))}
        # A transient error, or a server under load, is no reason to bury a job.
        unlimited = is_transient(error) or isinstance(error, StaleAnswerError)
        attempts, delay = await self._queue.fail(
            attempt, with_jitter(self._retry_delays), reason, unlimited=unlimited
        )
        if not attempts:
            return  # another worker has the lease by now, and handles the failure
        kind = attempt.kind
        fields = {
            "job": attempt.names[0],
            "attempts": attempts,
            "error": brief(error),
            **attempt.newest_event,
        }
        if delay is None:
            self._counters.buried[kind] += 1
            log.error("a job went to the dead letters", extra=fields)
        else:
            self._counters.failures[kind] += 1
            log.error("a job failed", extra={"retry_in": delay, **fields})


def _longest(completed: Sequence[Completion]) -> float | None:
    """Return the milliseconds since the oldest event was published; None: no event."""
    waited = [each.waited for each in completed if each.waited is not None]
    return round(max(waited) * 1000, 1) if waited else None


GONE = Answer({})
