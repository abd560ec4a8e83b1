"""Marks become values: lease what is due, read one snapshot, write, and settle the debt."""

import asyncio
import logging
import random
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from msgspec.structs import astuple

from statsd.calculators import Calculator, R
from statsd.errors import StatsdError
from statsd.job import Priority, parse
from statsd.jobs.bisect import bisect
from statsd.jobs.load_shedder import LoadShedder
from statsd.jobs.parts import Execute, Parts, Spent, at_once
from statsd.jobs.queue import Answer, Attempt, Completion, Leased, LeaseRequest, Queue
from statsd.jobs.wakeup import Wakes, WakeUp
from statsd.observability.counters import Counters
from statsd.servers.database import Database
from statsd.servers.outages import brief, is_transient
from statsd.servers.snapshot import Snapshot

log = logging.getLogger(__name__)

JITTER = 0.2  # each delay before another attempt is longer by up to this part
COOLDOWN_FACTOR = 10  # times what it took, a costly refresh rests
SLOW = 1.0  # seconds
NAMED = 5  # refreshes that a line names, of those that were slow together
PAGE = 100  # rows that are read at once of what is answered in parts
LONGEST_NAP = 1.0  # seconds until marks set by others are looked for


@dataclass(frozen=True)
class Executor:
    """How refreshes of one kind are answered, how many at once, and whether that is news."""

    execute: Execute
    batch: int
    log_level: int = logging.INFO
    costly: bool = False
    """Whether each has to rest for what it took, before it is answered again."""
    interval: float = 0.0
    """The least seconds between two answers of one, unless a page waits for it."""
    is_large: bool = False
    """Whether this can wait under pressure: see `statsd/gate.py`."""

    def cooldown(self, took: float) -> float | None:
        """Return for how long one rests that took so long, in seconds; None: not at all."""
        cooldown = max(COOLDOWN_FACTOR * took if self.costly else 0.0, self.interval)
        return cooldown or None


async def calculated(
    calculator: Calculator[R], snapshot: Snapshot, wanted: Sequence[R], attempt: Attempt
) -> Mapping[R, Answer]:
    """Return what a calculator says, and when it changes by itself."""
    results = await calculator.read(snapshot.rows, wanted, attempt.now)
    # In a thread, if it takes long, so that the loop goes on meanwhile.
    if calculator.costly:
        return await asyncio.to_thread(_answers, calculator, results, attempt)
    return _answers(calculator, results, attempt)


def _answers(
    calculator: Calculator[R], results: Sequence[Sequence[Any]], attempt: Attempt
) -> Mapping[R, Answer]:
    until = calculator.changes(results, attempt.now) if calculator.changes else {}
    return {
        job: Answer(values, until=until.get(job))
        for job, values in calculator.shape(results).items()
    }


async def calculated_in_parts(
    calculator: Calculator[Any], database: Database, wanted: Sequence[Any], attempt: Attempt
) -> Parts:
    """Give the same, some refreshes at a time, all from one snapshot."""
    parameters = calculator.parameters(wanted, attempt.now)
    values = sorted(value for job in wanted for value in astuple(job))
    async with database.snapshot(considerate=True) as snapshot:
        found = [
            await snapshot.groups(statement, parameters, page=PAGE)
            for statement in calculator.statements
        ]
        for first in range(0, len(values), calculator.together):
            some = values[first : first + calculator.together]
            results = [[row for value in some for row in await each.of(value)] for each in found]
            yield await asyncio.to_thread(_answers, calculator, results, attempt)


def calculate(calculator: Calculator[Any], database: Database) -> Executor:
    """Answer the refreshes of one kind with its calculator, from one snapshot."""

    async def answer(wanted: Sequence[Any], attempt: Attempt) -> Mapping[Any, Answer]:
        async with database.snapshot() as snapshot:
            return await calculated(calculator, snapshot, wanted, attempt)

    def execute(wanted: Sequence[Any], attempt: Attempt) -> Parts:
        return calculated_in_parts(calculator, database, wanted, attempt)

    return Executor(
        execute if calculator.together else at_once(answer),
        calculator.batch,
        costly=calculator.costly,
        interval=calculator.interval,
        is_large=calculator.is_large,
    )


class TooLateError(StatsdError):
    """The work took over a minute, and its answer was refused; less at once may do."""


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
        """Take how to answer each kind, and what rings when there is work.

        `lease` is in seconds, as are `retry_delays`, one for each attempt after the first, and
        `slow`, after which a batch is told of as slow. With `others` this worker is for what is
        urgent: it takes the most urgent first, however old the rest is, leaves what is less urgent
        than `least` to the others, and wakes them when it lies down. When it is `stopping` it takes
        nothing with an answer.
        """
        self._counters = counters or Counters()
        self._load_shedder = load_shedder or LoadShedder()
        self._slow = slow
        self._least = least
        self._others = others
        self._stopping = stopping
        self._queue = queue
        self._executors = executors
        self._batches = {kind: executor.batch for kind, executor in executors.items()}
        self._large = [kind for kind, each in executors.items() if each.is_large]
        self._wake_up = wake_up
        self._lease = lease
        self._retry_delays = retry_delays
        self._leased: set[str] = set()
        self._ahead: Leased | None = None  # what was taken with the last answer

    async def step(self) -> None:
        """Answer one batch, or nap until something may be due."""
        with self._load_shedder.permit(wanted=bool(self._large)) as large:
            attempt, more, wait = await self._next(may_be_large=large.is_valid)
            if more:
                (self._others or self._wake_up).wake()
            if attempt is None or attempt.kind not in self._large:
                large.give_back()
            if attempt is None:
                if self._others:
                    self._others.wake()
                await self._wake_up.sleep(LONGEST_NAP if wait is None else min(wait, LONGEST_NAP))
            else:
                self._leased = {*attempt.names}
                await self._answer(attempt)
                self._leased = set()

    async def _next(self, *, may_be_large: bool) -> Leased:
        """Return what was taken with the last answer; else take what is due."""
        leased, self._ahead = self._ahead, None
        return leased or await self._queue.lease(self._choice(may_be_large=may_be_large))

    def _choice(self, *, may_be_large: bool) -> LeaseRequest:
        return LeaseRequest(
            self._batches,
            self._least,
            self._load_shedder.debounce,
            strict=self._others is not None or not may_be_large,
            shed=() if may_be_large else self._large,
        )

    async def recover(self) -> None:
        """Give back what was under way when a server was lost: that was no attempt."""
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
        """Answer the names of an attempt, part by part; all is read after its token.

        What was settled stays so, whatever fails later on.
        """
        began = monotonic()
        names = {parse(name): name for name in attempt.names}
        spent = Spent(len(names))
        completed: list[Completion] = []
        try:
            async with aclosing(self._executors[attempt.kind].execute([*names], attempt)) as parts:
                async for found in parts:
                    answers = {names.pop(job): answer for job, answer in found.items()}
                    await self._complete(attempt, answers, spent, completed)
                    del found, answers  # before the next part is made
            await self._complete(attempt, dict.fromkeys(names.values(), GONE), spent, completed)
        finally:
            if completed:
                self._tell(attempt, completed, monotonic() - began)

    async def _complete(
        self,
        attempt: Attempt,
        answers: Mapping[str, Answer],
        spent: Spent,
        completed: list[Completion],
    ) -> None:
        """Write a part of the answers, which nobody works on then, and add what became of them.

        With the last of what it leased the worker for what is urgent takes what is due then, which
        mostly follows from it.
        """
        if not answers:
            return
        took = spent.on(len(answers))
        cooldown = self._executors[attempt.kind].cooldown(took)
        if self._others and self._leased <= answers.keys() and not self._stopping():
            choice = self._choice(may_be_large=False)
            found, self._ahead = await self._queue.complete_and_lease(
                attempt, answers, choice, took=took, cooldown=cooldown
            )
        else:
            found = await self._queue.complete(attempt, answers, took=took, cooldown=cooldown)
        stale = {name for name, each in zip(answers, found, strict=True) if each.status == "stale"}
        self._leased -= answers.keys() - stale
        completed += [each for each in found if each.status != "stale"]
        if stale:
            raise TooLateError
        spent.go_on()

    def _tell(self, attempt: Attempt, completed: Sequence[Completion], seconds: float) -> None:
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
            log.warning("refreshed, slowly", extra={"names": some, **fields})
        else:
            log.log(level, "refreshed", extra=fields)

    @asynccontextmanager
    async def _renewing(self, attempt: Attempt) -> AsyncIterator[None]:
        """Prolong the leases for as long as the work goes on."""
        over = asyncio.Event()  # and no cancellation, which a client may lose

        async def renew() -> None:
            while not over.is_set():
                await self._queue.renew(replace(attempt, names=tuple(self._leased)))
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._lease / 3):
                        await over.wait()

        renewals: list[asyncio.Task[None]] = []

        def begin() -> None:
            renewals.append(asyncio.create_task(renew(), name="renew leases"))

        # Most work is done long before: a timer costs it less than a task.
        timer = asyncio.get_running_loop().call_later(self._lease / 3, begin)
        try:
            yield
        finally:
            timer.cancel()
            over.set()
            failures = await asyncio.gather(*renewals, return_exceptions=True)
        for failure in filter(None, failures):
            raise failure  # what was settled is settled, the rest is put right

    async def _fail(self, attempt: Attempt, error: Exception) -> None:
        delays = [delay * random.uniform(1, 1 + JITTER) for delay in self._retry_delays]  # noqa: S311 - no secret
        reason = {"error": brief(error), "traceback": "".join(traceback.format_exception(error))}
        # What lies with the server's moment, or with the load on it, is never given up.
        patient = is_transient(error) or isinstance(error, TooLateError)
        attempts, delay = await self._queue.fail(attempt, delays, reason, patient=patient)
        if not attempts:
            return  # the lease is another's by now, and so is the failure
        kind = attempt.kind
        fields = {
            "job": attempt.names[0],
            "attempts": attempts,
            "error": brief(error),
            **attempt.newest_event,
        }
        if delay is None:
            self._counters.buried[kind] += 1
            log.error("a refresh went to the dead letters", extra=fields)
        else:
            self._counters.failures[kind] += 1
            log.error("a refresh failed", extra={"retry_in": delay, **fields})


def _longest(completed: Sequence[Completion]) -> float | None:
    """Return the milliseconds that the oldest event waited; None where none did."""
    waited = [each.waited for each in completed if each.waited is not None]
    return round(max(waited) * 1000, 1) if waited else None


GONE = Answer({})
