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
from statsd.jobs.bisect import isolate
from statsd.jobs.load_shedder import Gate
from statsd.jobs.parts import Parts, Perform, Spent, at_once
from statsd.jobs.queue import Answer, Attempt, Choice, Marks, Settled, Taken
from statsd.jobs.wakeup import Bell, Ring
from statsd.observability.counters import Tally
from statsd.servers.database import Database
from statsd.servers.outages import brief, passes
from statsd.servers.snapshot import Snapshot

log = logging.getLogger(__name__)

JITTER = 0.2  # each delay before another attempt is longer by up to this part
REST = 10  # times what it took, a costly refresh rests
SLOW = 1.0  # seconds
NAMED = 5  # refreshes that a line names, of those that were slow together
PAGE = 100  # rows that are read at once of what is answered in parts
LONGEST_NAP = 1.0  # seconds until marks set by others are looked for


@dataclass(frozen=True)
class Performer:
    """How refreshes of one kind are answered, how many at once, and whether that is news."""

    perform: Perform
    batch: int
    log_level: int = logging.INFO
    costly: bool = False
    """Whether each has to rest for what it took, before it is answered again."""
    interval: float = 0.0
    """The least seconds between two answers of one, unless a page waits for it."""
    is_large: bool = False
    """Whether this can wait under pressure: see `statsd/gate.py`."""

    def rest(self, took: float) -> float | None:
        """Return for how long one rests that took so long, in seconds; None: not at all."""
        rest = max(REST * took if self.costly else 0.0, self.interval)
        return rest or None


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
        refresh: Answer(values, until=until.get(refresh))
        for refresh, values in calculator.shape(results).items()
    }


async def calculated_in_parts(
    calculator: Calculator[Any], database: Database, wanted: Sequence[Any], attempt: Attempt
) -> Parts:
    """Give the same, some refreshes at a time, all from one snapshot."""
    parameters = calculator.parameters(wanted, attempt.now)
    values = sorted(value for refresh in wanted for value in astuple(refresh))
    async with database.snapshot(considerate=True) as snapshot:
        found = [
            await snapshot.groups(statement, parameters, page=PAGE)
            for statement in calculator.statements
        ]
        for first in range(0, len(values), calculator.together):
            some = values[first : first + calculator.together]
            results = [[row for value in some for row in await each.of(value)] for each in found]
            yield await asyncio.to_thread(_answers, calculator, results, attempt)


def calculate(calculator: Calculator[Any], database: Database) -> Performer:
    """Answer the refreshes of one kind with its calculator, from one snapshot."""

    async def answer(wanted: Sequence[Any], attempt: Attempt) -> Mapping[Any, Answer]:
        async with database.snapshot() as snapshot:
            return await calculated(calculator, snapshot, wanted, attempt)

    def perform(wanted: Sequence[Any], attempt: Attempt) -> Parts:
        return calculated_in_parts(calculator, database, wanted, attempt)

    return Performer(
        perform if calculator.together else at_once(answer),
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
        marks: Marks,
        performers: Mapping[str, Performer],
        bell: Bell,
        *,
        lease: float,
        retry_delays: Sequence[float],
        slow: float = SLOW,
        least: Priority = Priority.IDLE,
        others: Ring | None = None,
        tally: Tally | None = None,
        gate: Gate | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take how to answer each kind, and what rings when there is work.

        `lease` is in seconds, as are `retry_delays`, one for each attempt after the first, and
        `slow`, after which a batch is told of as slow. With `others` this worker is for what is
        urgent: it takes the most urgent first, however old the rest is, leaves what is less urgent
        than `least` to the others, and wakes them when it lies down. When it is `stopping` it takes
        nothing with an answer.
        """
        self._tally = tally or Tally()
        self._gate = gate or Gate()
        self._slow = slow
        self._least = least
        self._others = others
        self._stopping = stopping
        self._marks = marks
        self._performers = performers
        self._batches = {kind: performer.batch for kind, performer in performers.items()}
        self._large = [kind for kind, each in performers.items() if each.is_large]
        self._bell = bell
        self._lease = lease
        self._retry_delays = retry_delays
        self._leased: set[str] = set()
        self._ahead: Taken | None = None  # what was taken with the last answer

    async def step(self) -> None:
        """Answer one batch, or nap until something may be due."""
        with self._gate.passing(wanted=bool(self._large)) as large:
            attempt, more, wait = await self._next(may_be_large=large.is_valid)
            if more:
                (self._others or self._bell).ring()
            if attempt is None or attempt.kind not in self._large:
                large.give_back()
            if attempt is None:
                if self._others:
                    self._others.ring()
                await self._bell.sleep(LONGEST_NAP if wait is None else min(wait, LONGEST_NAP))
            else:
                self._leased = {*attempt.names}
                await self._answer(attempt)
                self._leased = set()

    async def _next(self, *, may_be_large: bool) -> Taken:
        """Return what was taken with the last answer; else take what is due."""
        taken, self._ahead = self._ahead, None
        return taken or await self._marks.take(self._choice(may_be_large=may_be_large))

    def _choice(self, *, may_be_large: bool) -> Choice:
        return Choice(
            self._batches,
            self._least,
            self._gate.lull,
            strict=self._others is not None or not may_be_large,
            held=() if may_be_large else self._large,
        )

    async def recover(self) -> None:
        """Give back what was under way when a server was lost: that was no attempt."""
        ahead = self._ahead.attempt if self._ahead else None
        names = [*self._leased, *(ahead.names if ahead else ())]
        if names:
            await self._marks.release(names)
        self._leased, self._ahead = set(), None

    async def _answer(self, taken: Attempt) -> None:
        async def work(names: Sequence[str]) -> None:
            left = tuple(name for name in names if name in self._leased)
            attempt = replace(taken, names=left)
            if left and left != taken.names:
                attempt = await self._marks.renew(attempt)  # each attempt has a token of its own
            if left:
                await self._attempt(attempt)

        async with self._renewing(taken):
            _, failures = await isolate(taken.names, work)
        for name, error in failures:
            await self._fail(replace(taken, names=(name,)), error)

    async def _attempt(self, attempt: Attempt) -> None:
        """Answer the names of an attempt, part by part; all is read after its token.

        What was settled stays so, whatever fails later on.
        """
        began = monotonic()
        names = {parse(name): name for name in attempt.names}
        spent = Spent(len(names))
        settled: list[Settled] = []
        try:
            async with aclosing(self._performers[attempt.kind].perform([*names], attempt)) as parts:
                async for found in parts:
                    answers = {names.pop(refresh): answer for refresh, answer in found.items()}
                    await self._settle(attempt, answers, spent, settled)
                    del found, answers  # before the next part is made
            await self._settle(attempt, dict.fromkeys(names.values(), GONE), spent, settled)
        finally:
            if settled:
                self._tell(attempt, settled, monotonic() - began)

    async def _settle(
        self, attempt: Attempt, answers: Mapping[str, Answer], spent: Spent, settled: list[Settled]
    ) -> None:
        """Write a part of the answers, which nobody works on then, and add what became of them.

        With the last of what it leased the worker for what is urgent takes what is due then, which
        mostly follows from it.
        """
        if not answers:
            return
        took = spent.on(len(answers))
        rest = self._performers[attempt.kind].rest(took)
        if self._others and self._leased <= answers.keys() and not self._stopping():
            choice = self._choice(may_be_large=False)
            found, self._ahead = await self._marks.settle_and_take(
                attempt, answers, choice, took=took, rest=rest
            )
        else:
            found = await self._marks.settle(attempt, answers, took=took, rest=rest)
        late = {name for name, each in zip(answers, found, strict=True) if each.status == "late"}
        self._leased -= answers.keys() - late
        settled += [each for each in found if each.status != "late"]
        if late:
            raise TooLateError
        spent.go_on()

    def _tell(self, attempt: Attempt, settled: Sequence[Settled], seconds: float) -> None:
        kind = attempt.kind
        self._tally.answered(kind, settled, queued=attempt.queued, took=seconds)
        if attempt.events and kind not in self._large:
            self._gate.press(len(settled))
        level = self._performers[kind].log_level
        fields = {
            "kind": kind,
            "refreshes": len(settled),
            **Counter(each.status for each in settled),
            "unchanged": sum(each.unchanged for each in settled),
            "queue_milliseconds": round(attempt.queued * 1000, 1),
            "milliseconds": round(seconds * 1000, 1),
            "since_published_milliseconds": _longest(settled),
            **attempt.newest_event,
        }
        if seconds >= self._slow:
            self._tally.slow[kind] += len(settled)
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
                await self._marks.renew(replace(attempt, names=tuple(self._leased)))
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
        patient = passes(error) or isinstance(error, TooLateError)
        attempts, delay = await self._marks.fail(attempt, delays, reason, patient=patient)
        if not attempts:
            return  # the lease is another's by now, and so is the failure
        kind = attempt.kind
        fields = {
            "refresh": attempt.names[0],
            "attempts": attempts,
            "error": brief(error),
            **attempt.newest_event,
        }
        if delay is None:
            self._tally.buried[kind] += 1
            log.error("a refresh went to the dead letters", extra=fields)
        else:
            self._tally.failures[kind] += 1
            log.error("a refresh failed", extra={"retry_in": delay, **fields})


def _longest(settled: Sequence[Settled]) -> float | None:
    """Return the milliseconds that the oldest event waited; None where none did."""
    waited = [each.waited for each in settled if each.waited is not None]
    return round(max(waited) * 1000, 1) if waited else None


GONE = Answer({})
