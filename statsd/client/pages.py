"""Pages: parts of a scoreboard or of its crews, cut from the array or read from a live board."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypedDict

import msgspec

from statsd import keys, scripts
from statsd.calculators import user_entries

MOST = 2**31  # more than there are entries on a board


class ScoreboardEntry(TypedDict):
    """One user's entry on a scoreboard."""

    rank: int
    solves: int
    user_id: int
    name: str | None
    email: str | None
    """Only for an icon that is derived from it: do not show or log it."""


class ScoreboardPage(NamedTuple):
    """A part of a scoreboard."""

    entries: Sequence[ScoreboardEntry]
    """In the order of ranks; they contain e-mail addresses."""
    total: int
    """The number of entries of the whole board."""
    me: ScoreboardEntry | None
    """The entry of the user in `me`, on whatever page it is; None where there is none."""


class CrewPage(NamedTuple):
    """A part of the crews of a board."""

    entries: Sequence[dict[str, Any]]
    """In the order of ranks, in the form of the contract; they contain e-mail addresses."""
    total: int
    """The number of crews on the board."""


class Board(NamedTuple):
    """A scoreboard: of a dojo, or of one of its modules, in a window."""

    dojo_id: int
    module_index: int | None
    days: int


class Part(NamedTuple):
    """A part of a scoreboard, and the user whose own entry is read with it."""

    board: Board
    first: int
    last: int
    """Ranks, counted from 0; `last` is included."""
    me: int | None

    def packed(self) -> bytes:
        """Return the request of the script `boards/page`."""
        dojo_id, module_index, days = self.board
        request = {
            "dojo": str(dojo_id),
            "scope": keys.scope(module_index),
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
    """Return the integers without duplicates; raise TypeError for anything else."""
    [(name, numbers)] = given.items()
    if isinstance(numbers, bytes):
        raise TypeError(f"{name} must be an iterable of int, not bytes")
    listed = list(numbers)
    check_integers(**{f"{name}[{i}]": number for i, number in enumerate(listed)})
    return frozenset(listed)


def check_page(page: int, per_page: int) -> None:
    """Raise ValueError unless both are positive, and TypeError unless both are integers."""
    check_integers(page=page, per_page=per_page)
    for name, number in (("page", page), ("per_page", per_page)):
        if number < 1:
            raise ValueError(f"{name} must be 1 or more, not {number!r}")


def part_of(board: Board, page: int, per_page: int, me: int | None) -> Part:
    """Return the part that is a page; raises ValueError and TypeError as `check_page`."""
    check_page(page, per_page)
    if me is not None:
        check_integers(me=me)
    first = (page - 1) * per_page
    return Part(board, first, first + per_page - 1, me)


class Mode(NamedTuple):
    """The ranking of crews, and a page of it."""

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
    """Return the mode; raises ValueError for an unknown name, and as `check_page`."""
    check_page(page, per_page)
    if name not in _RANKS:
        raise ValueError(f"mode must be one of {tuple(_RANKS)}, not {name!r}")
    return Mode(name, page, per_page)


def entry_alone(board: Board, user_id: int) -> Part:
    """Return an empty part with a user's own entry; raises TypeError for an id of another type."""
    check_integers(user_id=user_id)
    return Part(board, 1, 0, user_id)


class BoardEntry(msgspec.Struct):
    """An entry in the replies of the scripts `boards/page` and `boards/crews`."""

    rank: int
    user: str
    score: str
    text: str

    def entry(self) -> ScoreboardEntry:
        """Return it as scoreboards have it."""
        name, email = user_entries.person_in(self.text)
        return {
            "rank": self.rank + 1,
            "solves": user_entries.solves_in(int(self.score)),
            "user_id": int(self.user),
            "name": name,
            "email": email,
        }


class _Page(msgspec.Struct):
    """The reply of the script `boards/page`, as described on top of it."""

    total: int
    entries: list[BoardEntry]
    own: BoardEntry | None = None


def read_part(reply: bytes | None) -> ScoreboardPage | None:
    """Return the page in a reply of the script `boards/page`; None where the board is missing.

    Raises MsgspecError, ValueError or TypeError where a record is garbled.
    """
    if reply is None:
        return None
    found = msgspec.msgpack.decode(reply, type=_Page)
    entries = [each.entry() for each in found.entries]
    return ScoreboardPage(entries, found.total, found.own.entry() if found.own else None)


def cut(board: Sequence[ScoreboardEntry], part: Part) -> ScoreboardPage:
    """Return a part of a whole board."""
    own = None
    if part.me is not None:
        own = next((entry for entry in board if entry["user_id"] == part.me), None)
    return ScoreboardPage(board[part.first : part.last + 1], len(board), own)
