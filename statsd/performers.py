"""How the refreshes of statistics are answered in the daemon."""

from statsd.boards import LiveBoards
from statsd.calculators import crews, dojo_stats, scoreboard, standing
from statsd.calculators.crews import Crews
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.standing import Standing
from statsd.database import Database
from statsd.statistics import CALCULATORS
from statsd.worker import Performer, calculate


def statistics_of(boards: LiveBoards, database: Database) -> dict[str, Performer]:
    """Return who answers each kind: its calculator or, for what has to do with them, the boards."""
    every = scoreboard.calculator
    performers = {each.refresh.kind: calculate(each, database) for each in CALCULATORS}
    return performers | {
        Standing.kind: Performer(boards.stand, standing.BATCH),
        DojoStats.kind: Performer(boards.dojo_stats, dojo_stats.calculator.batch),
        Crews.kind: Performer(boards.crews, crews.calculator.batch, costly=True),
        Scoreboard.kind: Performer(boards.rebuild, every.batch, costly=every.costly),
    }
