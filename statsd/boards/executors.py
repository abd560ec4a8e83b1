"""The executors of all statistics, and of the jobs that keep the states of dojos."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from redis.asyncio import Redis

from statsd.boards import check
from statsd.boards.builder import Builder
from statsd.boards.check import Checker
from statsd.boards.exporter import REST_FACTOR, Exporter
from statsd.boards.live_boards import LiveBoards
from statsd.boards.names import Names
from statsd.calculators import Cost, user_entries
from statsd.calculators.catalog import STATISTICS
from statsd.calculators.dojo_arrays import PARTS, Boards, Exports
from statsd.calculators.dojo_check import DojoCheck, RecordsCheck
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.user_entries import UserEntries
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.executor import Executor, calculate
from statsd.jobs.parts import at_once
from statsd.servers.database import Database

EXPORTS = Cost(batch=20)  # dojos


async def ask(wanted: Sequence[Any], _attempt: Attempt) -> Mapping[Any, Answer]:
    """Answer the jobs of readers that miss arrays: the missing ones are made by other jobs."""
    return {job: Answer({}, boards={"ask": {"dojo": str(job.dojo_id)}}) for job in wanted}


def statistics_of(
    redis: Redis, database: Database, *, rest_factor: float = REST_FACTOR
) -> dict[str, Executor]:
    """Return executors by kind: the calculator of a statistic or, for dojos, their states.

    An array rests after an export, for `rest_factor` times its cost.
    """
    executors = {each.job.kind: calculate(each, database) for each in STATISTICS}
    names = Names(redis, database)
    live, checker = LiveBoards(database), Checker(redis, database)
    by_state = {
        DojoStats.kind: at_once(live.dojo_stats),
        Boards.kind: Builder(redis, database, names).execute,
    }
    executors |= {kind: replace(executors[kind], execute=own) for kind, own in by_state.items()}
    asking = {part.job.kind: Executor(at_once(ask), Cost()) for part in PARTS}
    return (
        executors
        | asking
        | {
            UserEntries.kind: Executor(at_once(live.user_entries_of), user_entries.COST),
            Exports.kind: Executor(
                Exporter(redis, names, rest_factor).execute, EXPORTS, is_large=True
            ),
            DojoCheck.kind: Executor(at_once(checker.dojos), check.COST),
            RecordsCheck.kind: Executor(at_once(checker.records), check.SLICE_COST),
        }
    )
