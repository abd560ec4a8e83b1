"""What a reader is asked for: where it is cached, how it is computed, and what it is if not."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypedDict

import sqlalchemy as sa

from statsd import keys
from statsd.calculators import Calculator, challenge_solves, dojo_stats, scoreboard, scores
from statsd.references import find_dojo, find_place

LEAST, LARGEST = -(2**31), 2**31 - 1  # what the columns hold


class ScoreboardEntry(TypedDict):
    """One user's place on a scoreboard."""

    rank: int
    solves: int
    user_id: int
    name: str | None
    email: str | None
    """For an icon that is derived from it, and nothing else: not for pages, not for logs."""


class ScoreboardPage(NamedTuple):
    """A part of a scoreboard."""

    entries: Sequence[ScoreboardEntry]
    """In the order of ranks, as they are cached, e-mail addresses among them."""
    total: int
    """How many entries the whole board has."""
    me: ScoreboardEntry | None
    """The entry of the user who was asked for, on whatever page; None where there is none."""


class Wanted(NamedTuple):
    """One value of the cache."""

    key: str
    calculator: Calculator[Any]
    find: Callable[[], "sa.Select[Any]"] | None
    """Makes a statement which selects the `dojo_id` if what has the value exists, so that
    nothing is computed for what does not; None where no database could hold its name."""
    empty: Callable[[], Any]


def dojo_stats_of(reference_id: str) -> Wanted:
    """Want the statistics of a dojo; raises TypeError for what is no text."""
    _check_text(reference_id=reference_id)
    find = partial(find_dojo, reference_id) if keys.is_storable(reference_id) else None
    return Wanted(keys.dojo_stats(reference_id), dojo_stats.calculator, find, dojo_stats.empty)


def scoreboard_of(dojo_id: int, module_index: int | None, days: int) -> Wanted:
    """Want a scoreboard; raises ValueError where there is no such window.

    As those below it raises TypeError for ids and indexes that are no integers.
    """
    if days not in scoreboard.WINDOWS:
        raise ValueError(f"days must be one of {scoreboard.WINDOWS}, not {days!r}")
    key = keys.scoreboard(dojo_id, module_index, days)
    return Wanted(key, scoreboard.calculator, _find(dojo_id, module_index), scoreboard.empty)


def scores_of(dojo_id: int, module_index: int | None) -> Wanted:
    """Want the scores in a dojo or module."""
    key = keys.scores(dojo_id, module_index)
    return Wanted(key, scores.calculator, _find(dojo_id, module_index), scores.empty)


def challenge_solves_of(dojo_id: int, module_index: int) -> Wanted:
    """Want the solves of a module's challenges."""
    check_integers(module_index=module_index)
    key = keys.challenge_solves(dojo_id, module_index)
    find = _find(dojo_id, module_index)
    return Wanted(key, challenge_solves.calculator, find, challenge_solves.empty)


def _find(dojo_id: int, module_index: int | None) -> Callable[[], "sa.Select[Any]"] | None:
    check_integers(dojo_id=dojo_id)
    numbers = [dojo_id]
    if module_index is not None:
        check_integers(module_index=module_index)
        numbers.append(module_index)
    if not all(LEAST <= number <= LARGEST for number in numbers):
        return None
    return partial(find_place, dojo_id, module_index)


def _check_text(**given: object) -> None:
    for name, text in given.items():
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a str, not {type(text).__name__}")


def check_integers(**given: object) -> None:
    """Raise TypeError unless all are integers."""
    for name, number in given.items():
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(f"{name} must be an int, not {type(number).__name__}")


def check_page(page: int, per_page: int) -> None:
    """Raise ValueError unless both are positive, TypeError where one is no integer."""
    check_integers(page=page, per_page=per_page)
    for name, number in (("page", page), ("per_page", per_page)):
        if number < 1:
            raise ValueError(f"{name} must be 1 or more, not {number!r}")


def page_of(
    board: Sequence[ScoreboardEntry], page: int, per_page: int, me: int | None
) -> ScoreboardPage:
    """Cut a page out of a board; raises TypeError where `me` is no integer."""
    if me is not None:
        check_integers(me=me)
    first = (page - 1) * per_page
    own = None if me is None else entry_of(board, me)
    return ScoreboardPage(board[first : first + per_page], len(board), own)


def entry_of(board: Sequence[ScoreboardEntry], user_id: int) -> ScoreboardEntry | None:
    """Return a user's entry, None where the board has none; raises TypeError for no integer."""
    check_integers(user_id=user_id)
    return next((entry for entry in board if entry["user_id"] == user_id), None)
