"""What a reader is asked for: where it is cached, how it is computed, and what it is if not."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypedDict

import sqlalchemy as sa

from statsd import keys, scripts
from statsd.calculators import (
    Calculator,
    challenge_solves,
    dojo_stats,
    scoreboard,
    scores,
    standing,
)
from statsd.calculators.standing import DOJO
from statsd.references import find_dojo, find_place

LEAST, LARGEST = -(2**31), 2**31 - 1  # what the columns hold
MOST = 2**31  # more than there are entries on a board


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
    """In the order of ranks, e-mail addresses among them."""
    total: int
    """How many entries the whole board has."""
    me: ScoreboardEntry | None
    """The entry of the user who was asked for, on whatever page; None where there is none."""


class Board(NamedTuple):
    """A scoreboard: of a dojo, or of one of its modules, in a window."""

    dojo_id: int
    module_index: int | None
    days: int


class Part(NamedTuple):
    """A part of a live scoreboard, and whose own entry is wanted beside it."""

    board: Board
    first: int
    last: int
    """Ranks, counted from 0; `last` is in the part."""
    me: int | None

    def packed(self) -> bytes:
        """Return what the script `page` takes."""
        dojo_id, module_index, days = self.board
        request = {
            "dojo": str(dojo_id),
            "place": DOJO if module_index is None else str(module_index),
            "days": days,
            "first": min(self.first, MOST),
            "last": min(self.last, MOST),
        }
        return scripts.encode(request if self.me is None else request | {"me": str(self.me)})


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


def scoreboard_of(board: Board) -> Wanted:
    """Want a scoreboard; raises ValueError where there is no such window.

    As those below it raises TypeError for numbers that are no integers.
    """
    check_integers(days=board.days)
    if board.days not in scoreboard.WINDOWS:
        raise ValueError(f"days must be one of {scoreboard.WINDOWS}, not {board.days!r}")
    find = _find(board.dojo_id, board.module_index)
    return Wanted(keys.scoreboard(*board), scoreboard.calculator, find, scoreboard.empty)


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


def part_of(board: Board, page: int, per_page: int, me: int | None) -> Part:
    """Want a page of a live scoreboard; raises ValueError and TypeError as `check_page`."""
    check_page(page, per_page)
    if me is not None:
        check_integers(me=me)
    first = (page - 1) * per_page
    return Part(board, first, first + per_page - 1, me)


def entry_alone(board: Board, user_id: int) -> Part:
    """Want a user's own entry on a live scoreboard; raises TypeError for no integer."""
    check_integers(user_id=user_id)
    return Part(board, 1, 0, user_id)


def read_part(reply: Sequence[Any]) -> ScoreboardPage | None:
    """Return what the script `page` found; None where the board is not there."""
    if not reply:
        return None
    total, entries, own = reply
    return ScoreboardPage([_live(*each) for each in entries], total, _live(*own) if own else None)


def _live(rank: int, user_id: bytes, number: bytes, text: bytes) -> ScoreboardEntry:
    name, email = standing.person_in(text)
    return {
        "rank": rank + 1,
        "solves": standing.solves_in(int(number)),
        "user_id": int(user_id),
        "name": name,
        "email": email,
    }


def cut(board: Sequence[ScoreboardEntry], part: Part) -> ScoreboardPage:
    """Return a part of a board that was read as a whole."""
    own = None
    if part.me is not None:
        own = next((entry for entry in board if entry["user_id"] == part.me), None)
    return ScoreboardPage(board[part.first : part.last + 1], len(board), own)
