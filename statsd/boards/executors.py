"""How the refreshes of statistics are answered in the daemon."""

from dataclasses import replace

from statsd.boards.live_boards import LiveBoards
from statsd.calculators import user_entries
from statsd.calculators.catalog import CALCULATORS
from statsd.calculators.crews import Crews
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.user_entries import Standing
from statsd.jobs.parts import Perform, at_once
from statsd.jobs.worker import Performer, calculate
from statsd.servers.database import Database


def statistics_of(boards: LiveBoards, database: Database) -> dict[str, Performer]:
    """Return who answers each kind: its calculator or, for what has to do with them, the boards."""
    performers = {each.refresh.kind: calculate(each, database) for each in CALCULATORS}
    by_boards: dict[str, Perform] = {
        DojoStats.kind: at_once(boards.dojo_stats),
        Crews.kind: boards.crews,
        Scoreboard.kind: boards.rebuild,
    }
    return (
        performers
        | {kind: replace(performers[kind], perform=own) for kind, own in by_boards.items()}
        | {Standing.kind: Performer(at_once(boards.stand), user_entries.BATCH)}
    )
