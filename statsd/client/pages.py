"""Pages: parts of what is read as a whole, or from a live board."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypedDict

from statsd import keys, scripts
from statsd.calculators import user_entries

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


class CrewPage(NamedTuple):
    """A part of the crews of a board."""

    entries: Sequence[dict[str, Any]]
    """In the order of ranks, as the contract has them: members' e-mail addresses among them."""
    total: int
    """How many crews there are."""


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
            "place": keys.scope(module_index),
            "days": days,
            "first": min(self.first, MOST),
            "last": min(self.last, MOST),
        }
        return scripts.encode(request if self.me is None else request | {"me": str(self.me)})


def check_integers(**given: object) -> None:
    """Raise TypeError unless all are integers."""
    for name, number in given.items():
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(f"{name} must be an int, not {type(number).__name__}")


def distinct_integers(**given: Iterable[int]) -> frozenset[int]:
    """Return the integers that were given, each once; raise TypeError for anything else."""
    [(name, numbers)] = given.items()
    if isinstance(numbers, bytes):
        raise TypeError(f"{name} must be an iterable of int, not bytes")
    listed = list(numbers)
    check_integers(**{f"{name}[{i}]": number for i, number in enumerate(listed)})
    return frozenset(listed)


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


class Mode(NamedTuple):
    """How crews are ranked, on what page."""

    name: str
    page: int
    per_page: int

    def cut(self, crews: Sequence[dict[str, Any]]) -> CrewPage:
        """Return a part of the crews of a board."""
        ordered = sorted(crews, key=lambda crew: crew[_RANKS[self.name]])
        first = (self.page - 1) * self.per_page
        return CrewPage(ordered[first : first + self.per_page], len(ordered))


_RANKS = {"cumulative": "rank", "unique": "unique_rank"}


def mode_of(name: str, page: int, per_page: int) -> Mode:
    """Want a page of crews; raises ValueError for another mode, and as `check_page`."""
    check_page(page, per_page)
    if name not in _RANKS:
        raise ValueError(f"mode must be one of {tuple(_RANKS)}, not {name!r}")
    return Mode(name, page, per_page)


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
    name, email = user_entries.person_in(text)
    return {
        "rank": rank + 1,
        "solves": user_entries.solves_in(int(number)),
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
