"""The executors of all statistics."""

from dataclasses import replace

from statsd.boards.live_boards import LiveBoards
from statsd.calculators import user_entries
from statsd.calculators.catalog import STATISTICS
from statsd.calculators.crews import Crews
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.user_entries import UserEntries
from statsd.jobs.executor import Executor, calculate
from statsd.jobs.parts import Execute, at_once
from statsd.servers.database import Database


def statistics_of(boards: LiveBoards, database: Database) -> dict[str, Executor]:
    """Return executors by kind: the calculator of a statistic or, for some, the live boards."""
    executors = {each.job.kind: calculate(each, database) for each in STATISTICS}
    by_boards: dict[str, Execute] = {
        DojoStats.kind: at_once(boards.dojo_stats),
        Crews.kind: boards.crews,
        Scoreboard.kind: boards.rebuild,
    }
    return (
        executors
        | {kind: replace(executors[kind], execute=own) for kind, own in by_boards.items()}
        | {UserEntries.kind: Executor(at_once(boards.user_entries_of), user_entries.COST)}
    )
