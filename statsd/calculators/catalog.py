"""All statistics there are. A new one adds its calculator here."""

from collections.abc import Mapping
from typing import Any

from statsd.calculators import (
    Calculator,
    activity,
    belts,
    challenge_solves,
    crews,
    dojo_stats,
    emojis,
    scoreboard,
    scores,
)
from statsd.calculators.challenge_solves import ChallengeSolves
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.scores import Scores
from statsd.calculators.user_entries import UserEntries
from statsd.job import Job

# In this order everything is computed at a cold start. Statistics and crews of dojos follow from
# boards, which owe them once they are in place; before that they would be passes of their own.
CALCULATORS: tuple[Calculator[Any], ...] = (
    scoreboard.calculator,
    challenge_solves.calculator,
    scores.calculator,
    belts.calculator,
    emojis.calculator,
    activity.calculator,
    dojo_stats.calculator,
    crews.calculator,
)


def of_solver(dojo_id: int, user_id: int) -> tuple[Job, ...]:
    """Return what depends on one user's solves in a dojo, by itself or by what that changes."""
    return UserEntries(dojo_id, user_id), ChallengeSolves(dojo_id), Scores(dojo_id)


def of_dojo(dojo_id: int) -> tuple[Job, ...]:
    """Return what depends on a dojo's rows and on the solves of its challenges.

    Crews are not among it: they follow from the boards, which the scoreboard brings.

    A dojo that is open to few has no scores, but it may have had some; finding that out costs
    less than looking up which dojo is of which sort.
    """
    return Scoreboard(dojo_id), DojoStats(dojo_id), ChallengeSolves(dojo_id), Scores(dojo_id)


_calculators: Mapping[str, Calculator[Any]] = {each.job.kind: each for each in CALCULATORS}


def calculator_of(kind: str) -> Calculator[Any]:
    """Return what computes refreshes of a kind."""
    return _calculators[kind]


def is_statistic(job: Job) -> bool:
    """Say whether a refresh has a calculator, and so a value to compare."""
    return job.kind in _calculators
