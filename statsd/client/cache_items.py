"""What a reader is asked for: where it is cached, how it is computed, and what it is if not."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from statsd import keys
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
from statsd.calculators.references import find_dojo, find_scope, find_user
from statsd.client.pages import Board, check_integers

LEAST, LARGEST = -(2**31), 2**31 - 1  # what the columns hold


class Source(NamedTuple):
    """How a value is computed."""

    calculator: Calculator[Any]
    find: Callable[[], "sa.Select[Any]"] | None = None
    """Makes a statement which selects the integers that name the refresh (a `dojo_id`, say) if what
    has the value exists, so that nothing is computed for what does not; None where there is one
    value for all."""


class Wanted(NamedTuple):
    """One value of the cache."""

    key: str
    source: Source | None
    """None where nothing computes it, or no database could hold its name."""
    empty: Callable[[], Any]
    members: frozenset[str] = frozenset()
    """What a value has that is taken to pieces here; one without counts as missing."""

    @property
    def sort(self) -> str:
        """What its key begins with, which has nobody's name in it: `stats:dojo`."""
        return ":".join(self.key.split(":", 2)[:2])


def dojo_stats_of(reference_id: str) -> Wanted:
    """Want the statistics of a dojo; raises TypeError for what is no text."""
    _check_text(reference_id=reference_id)
    source = None
    if keys.is_storable(reference_id):
        source = Source(dojo_stats.calculator, partial(find_dojo, reference_id))
    return Wanted(keys.dojo_stats(reference_id), source, dojo_stats.empty)


def scoreboard_of(board: Board) -> Wanted:
    """Want a scoreboard; raises ValueError where there is no such window.

    As those below it raises TypeError for numbers that are no integers.
    """
    check_days(board.days)
    return Wanted(keys.scoreboard(*board), _in_scope(scoreboard, *board[:2]), scoreboard.empty)


def crews_of(board: Board) -> Wanted:
    """Want the crews of a board; raises ValueError where there is no such window."""
    check_days(board.days)
    return Wanted(keys.crews(*board), _in_scope(crews, *board[:2]), crews.empty)


def scores_of(dojo_id: int, module_index: int | None) -> Wanted:
    """Want the scores in a dojo or module."""
    key = keys.scores(dojo_id, module_index)
    return Wanted(key, _in_scope(scores, dojo_id, module_index), scores.empty)


def challenge_solves_of(dojo_id: int, module_index: int) -> Wanted:
    """Want the solves of a module's challenges."""
    check_integers(module_index=module_index)
    key = keys.challenge_solves(dojo_id, module_index)
    return Wanted(key, _in_scope(challenge_solves, dojo_id, module_index), challenge_solves.empty)


def belts_of_all() -> Wanted:
    """Want the belts of all users."""
    return Wanted(keys.BELTS, Source(belts.calculator), belts.empty, frozenset(belts.empty()))


def emojis_of_all() -> Wanted:
    """Want the emojis of all users, of all dojos."""
    return Wanted(keys.EMOJIS, Source(emojis.calculator), emojis.empty, frozenset(emojis.empty()))


def containers_of_all() -> Wanted:
    """Want the running containers, which only the daemon can count."""
    return Wanted(keys.CONTAINERS, None, list)


def activity_of(user_id: int) -> Wanted:
    """Want a user's solves of the last year."""
    check_integers(user_id=user_id)
    source = None
    if _is_storable(user_id):
        source = Source(activity.calculator, partial(find_user, user_id))
    return Wanted(keys.activity(user_id), source, activity.empty)


def _in_scope(statistic: Any, dojo_id: int, module_index: int | None) -> Source | None:
    """Return how a statistic of a dojo or module is computed."""
    check_integers(dojo_id=dojo_id)
    numbers = [dojo_id]
    if module_index is not None:
        check_integers(module_index=module_index)
        numbers.append(module_index)
    if not _is_storable(*numbers):
        return None
    return Source(statistic.calculator, partial(find_scope, dojo_id, module_index))


def check_days(days: int) -> None:
    """Raise ValueError unless this is a window."""
    check_integers(days=days)
    if days not in scoreboard.WINDOWS:
        raise ValueError(f"days must be one of {scoreboard.WINDOWS}, not {days!r}")


def _is_storable(*numbers: int) -> bool:
    return all(LEAST <= number <= LARGEST for number in numbers)


def _check_text(**given: object) -> None:
    for name, text in given.items():
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a str, not {type(text).__name__}")
