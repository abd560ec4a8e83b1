"""Executors: the functions that answer the jobs of each kind, and their limits."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import astuple

from statsd.calculators import Calculator, Cost, R
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.parts import Execute, Parts, at_once
from statsd.servers.database import Database
from statsd.servers.snapshot import Snapshot

EXPORT_INTERVAL = 0.5  # seconds, the least cooldown of a large job that is a full pass
COOLDOWN_FACTOR = 10  # a cooldown lasts this many times the duration of its job
PAGE = 100  # rows read at once, where answers come in parts


@dataclass(frozen=True)
class Executor:
    """The function that answers the jobs of one kind, and their limits."""

    execute: Execute
    cost: Cost
    is_large: bool = False
    """Whether load shedding postpones the jobs; see `statsd/jobs/load_shedder.py`."""
    log_level: int = logging.INFO

    def cooldown(self, took: float) -> float | None:
        """Return the cooldown in seconds, or None, of a job that took `took` seconds."""
        if not self.cost.full_pass:
            return None
        return max(COOLDOWN_FACTOR * took, EXPORT_INTERVAL if self.is_large else 0.0) or None


async def calculated(
    calculator: Calculator[R], snapshot: Snapshot, jobs: Sequence[R], attempt: Attempt
) -> Mapping[R, Answer]:
    """Return the answers of a calculator, with the moments at which they next change."""
    results = await calculator.read(snapshot.rows, jobs, attempt.now)
    if calculator.cost.full_pass:  # shaping takes long: in a thread it does not block the loop
        return await asyncio.to_thread(_answers, calculator, results, attempt)
    return _answers(calculator, results, attempt)


def _answers(
    calculator: Calculator[R], results: Sequence[Sequence[Any]], attempt: Attempt
) -> Mapping[R, Answer]:
    until = calculator.changes(results, attempt.now) if calculator.changes else {}
    records = calculator.record(results) if calculator.record else {}
    return {
        job: Answer(values, until=until.get(job), boards=records.get(job, {}))
        for job, values in calculator.shape(results).items()
    }


async def calculated_in_parts(
    calculator: Calculator[Any], database: Database, jobs: Sequence[Any], attempt: Attempt
) -> Parts:
    """Yield the answers of a calculator for some jobs at a time, all from one snapshot."""
    if calculator.known_parameters:
        known = {job: attempt.known[job.name] for job in jobs if job.name in attempt.known}
        parameters = calculator.known_parameters(jobs, attempt.now, known)
    else:
        parameters = calculator.parameters(jobs, attempt.now)
    ids = sorted(number for job in jobs for number in astuple(job))
    part = calculator.cost.part
    async with database.snapshot(considerate=True) as snapshot:
        found = [
            await snapshot.groups(statement, parameters, page=PAGE)
            for statement in calculator.statements
        ]
        for first in range(0, len(ids), part):
            some = ids[first : first + part]
            results = [[row for number in some for row in await each.of(number)] for each in found]
            yield await asyncio.to_thread(_answers, calculator, results, attempt)


def calculate(calculator: Calculator[Any], database: Database) -> Executor:
    """Return the executor of a statistic: its calculator, on one snapshot for each batch."""

    async def answer(jobs: Sequence[Any], attempt: Attempt) -> Mapping[Any, Answer]:
        async with database.snapshot() as snapshot:
            return await calculated(calculator, snapshot, jobs, attempt)

    def execute(jobs: Sequence[Any], attempt: Attempt) -> Parts:
        return calculated_in_parts(calculator, database, jobs, attempt)

    return Executor(
        execute if calculator.cost.part else at_once(answer),
        calculator.cost,
        is_large=calculator.is_large,
    )
