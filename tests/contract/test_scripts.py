"""What scripts and the daemon have to agree on."""

from statsd import scripts
from statsd.calculators.dojo_stats import RECENT_SOLVES


def test_boards_tell_as_many_of_the_newest_solves_as_are_shown() -> None:
    assert f"local SHOWN = {RECENT_SOLVES} " in scripts.source("take")
