"""Everything that follows from the entries of a dojo, in NumPy.

The scripts derive the same for one user (`follow_from` in statsd/boards/lua/state.lua). Tests hold
both against the full calculations and against naive ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np

from statsd import keys
from statsd.boards.columns import (
    PLACE_ITEM,
    RECORD_ENTRY,
    Array,
    Entries,
    sorted_once,
    starts_of_groups,
)
from statsd.calculators.user_entries import COUNTED, SCORED, VISIBLE
from statsd.definitions import CHART_SPAN, NO_DATE, RECENT_DAYS, SCORE_UNIT, WINDOWS
from statsd.job import TICK

DAY = timedelta(days=1) // TICK
ITEM = np.dtype(
    [
        ("user", "<u4"),
        ("scores", "<i8", (len(WINDOWS),)),
        ("count", "<u4"),
        ("latest", "<i8"),
    ]
)
"""What a state keeps of a user in a scope: see `items` in statsd/boards/lua/state.lua."""
ITEMS_SENTINEL = np.zeros(1, ITEM).tobytes()


class Ranking(NamedTuple):
    """The entries of one board in the order of ranks."""

    scope: str
    days: int
    users: Array
    scores: Array

    @property
    def solves(self) -> Array:
        """The solves of each user."""
        return self.scores // SCORE_UNIT


def ranking(scope: str, days: int, items: Array) -> Ranking:
    """Return the board of a scope and window, from the items of the scope."""
    scores = np.ascontiguousarray(items["scores"][:, WINDOWS.index(days)])
    on_board = np.flatnonzero(scores > 0)
    order = on_board[np.argsort(-scores[on_board])]  # no two users have the same last solve
    return Ranking(scope, days, items["user"][order], scores[order])


class OrderedScores(NamedTuple):
    """The scores of a scope in the order of ranks."""

    users: Array
    counts: Array


class DojoShape:
    """What follows from the entries of one dojo at a moment."""

    def __init__(self, entries: Entries, modules: Sequence[int], now: int) -> None:
        """Take the entries of a dojo, and the indexes of all its modules.

        `now` is the moment in microseconds since 1970.
        """
        known = np.isin(entries.module, np.array(modules, "i4"))
        self.entries = entries if known.all() else entries.at(known)
        self.modules = modules
        self._now = now
        self._user_starts = starts_of_groups(self.entries.user)
        self._module_starts = starts_of_groups(self.entries.user, self.entries.module)
        self._is_counted = (self.entries.flags & COUNTED) > 0
        self._is_scored = (self.entries.flags & SCORED) > 0
        self.users = self.entries.user[self._user_starts]
        self._pair_users = self.entries.user[self._module_starts]
        self._pair_modules = self.entries.module[self._module_starts]

    def _within(self, days: int) -> Array:
        """Return which entries a window counts."""
        if days == 0:
            return self._is_counted
        return self._is_counted & (self.entries.date >= self._now - days * DAY)

    def _scores_of(self, within: Array, starts: Array) -> Array:
        """Return the score of each group of entries; 0 for a group without any in the window."""
        solves = np.add.reduceat(within.astype("i8"), starts)
        last = np.maximum.reduceat(np.where(within, self.entries.solve, -1), starts)
        return np.where(solves > 0, solves * SCORE_UNIT + (SCORE_UNIT - 1 - last), 0)

    def items(self) -> Mapping[str, Array]:
        """Return the items of the dojo and of each module, by scope, in the order of user ids."""
        every = np.argsort(self._pair_modules, kind="stable")
        modules = np.array(self.modules, "i4")
        firsts = np.searchsorted(self._pair_modules[every], modules, "left")
        ends = np.searchsorted(self._pair_modules[every], modules, "right")
        of_pairs = self._items(self._pair_users, self._module_starts)
        found = {keys.DOJO: self._items(self.users, self._user_starts)}
        for module, first, end in zip(self.modules, firsts, ends, strict=True):
            found[str(module)] = of_pairs[every[first:end]]
        return {scope: own[(own["count"] > 0) | _is_on(own)] for scope, own in found.items()}

    def _items(self, users: Array, starts: Array) -> Array:
        items = np.zeros(len(starts), ITEM)
        if len(starts):
            items["user"] = users
            for at, days in enumerate(WINDOWS):
                items["scores"][:, at] = self._scores_of(self._within(days), starts)
            items["count"] = np.add.reduceat(self._is_scored.astype("u4"), starts)
            dates = np.where(self._is_scored, self.entries.date, NO_DATE)
            items["latest"] = np.maximum.reduceat(dates, starts)
        return items

    def records(
        self, token: int, names: Mapping[int, int], items: Mapping[str, Array]
    ) -> "Records":
        """Return the records of all users; `names` has the digest of each user's name."""
        headers = np.zeros(len(self.users), _HEADER)
        headers["token"] = token
        headers["name"] = [names.get(user, 0) for user in self.users.tolist()]
        of_dojo = items[keys.DOJO]["user"]
        headers["place"][np.searchsorted(self.users, of_dojo)] = np.arange(1, len(of_dojo) + 1)
        ends = np.append(self._user_starts[1:], self.entries.size)[: len(self.users)]
        headers["count"] = ends - self._user_starts
        users, places = _places(
            {int(each): own for each, own in items.items() if each != keys.DOJO}
        )
        parts = (
            _parts(headers.tobytes(), np.arange(len(headers)), 1, _HEADER.itemsize),
            _parts(self.entries.packed(), self._user_starts, ends, RECORD_ENTRY.itemsize),
            _parts(
                places.tobytes(),
                np.searchsorted(users, self.users, "left"),
                np.searchsorted(users, self.users, "right"),
                PLACE_ITEM.itemsize,
            ),
        )
        return Records(self.users.tolist(), [b"".join(each) for each in zip(*parts, strict=True)])

    def challenges(self) -> Mapping[int, Mapping[int, int]]:
        """Return the solves of each challenge, by module and challenge."""
        visible = self.entries.at((self.entries.flags & VISIBLE) > 0)
        found: dict[int, dict[int, int]] = {module: {} for module in self.modules}
        pairs = (visible.module.astype("i8") << 32) + visible.challenge
        unique, counts = np.unique(pairs, return_counts=True)
        for pair, count in zip(unique.tolist(), counts.tolist(), strict=True):
            found[pair >> 32][pair & 0xFFFFFFFF] = count
        return found

    def days(self) -> dict[str, int]:
        """Return the fields of `days`: solves and users of each UTC day that a chart can show."""
        days = self.entries.date // DAY
        recent = self._is_counted & (days >= self._now // DAY - CHART_SPAN)
        days, users = days[recent], self.entries.user[recent]
        of_users = sorted_once((days << 32) + users) >> 32
        return {
            f"{field}{day}": count
            for field, values in (("s", days), ("u", of_users))
            for day, count in zip(
                *(each.tolist() for each in np.unique(values, return_counts=True)), strict=True
            )
        }

    @property
    def solves(self) -> int:
        """The number of counted entries."""
        return int(self._is_counted.sum())

    def newest(self) -> list[int]:
        """Return the moment of each user's newest solve of the last days, and the user: flat."""
        recent = self._within(RECENT_DAYS)
        return self._moments(np.where(recent, self.entries.date, NO_DATE), np.maximum, NO_DATE)

    def leaving(self) -> list[int]:
        """Return the moment when each user's first solve leaves a window, and the user: flat."""
        never = np.iinfo("i8").max
        moments = np.full(self.entries.size, never)
        for days in filter(None, WINDOWS):
            leaves = self.entries.date + days * DAY + 1
            moments = np.where(self._within(days), np.minimum(moments, leaves), moments)
        return self._moments(moments, np.minimum, never)

    def _moments(self, moments: Array, reduce: Any, none: int) -> list[int]:
        if not len(self._user_starts):
            return []
        found = reduce.reduceat(moments, self._user_starts)
        has = found != none
        return flat(found[has], self.users[has])


_HEADER = np.dtype([("token", "<i8"), ("name", "<u4"), ("place", "<u4"), ("count", "<u4")])


def _is_on(items: Array) -> Array:
    """Return whose item is on a board: every window is a part of the one of all time."""
    of_all_time: Array = items["scores"][:, WINDOWS.index(0)] > 0
    return of_all_time


def _places(items: Mapping[int, Array]) -> tuple[Array, Array]:
    """Return users in order, and the place of each among the items of a module."""
    if not items:
        return np.empty(0, "u4"), np.empty(0, PLACE_ITEM)
    users = np.concatenate([own["user"] for own in items.values()])
    places = np.empty(len(users), PLACE_ITEM)
    places["module"] = np.repeat([*items], [*map(len, items.values())])
    places["place"] = np.concatenate([np.arange(1, len(own) + 1) for own in items.values()])
    order = np.argsort(users, kind="stable")
    return users[order], places[order]


def _parts(raw: bytes, starts: Array, ends: Array | int, size: int) -> Iterator[memoryview]:
    """Yield the parts of raw items between starts and ends; a number is that of items in each."""
    view = memoryview(raw)
    stops = starts + ends if isinstance(ends, int) else ends
    for start, stop in zip((starts * size).tolist(), (stops * size).tolist(), strict=True):
        yield view[start:stop]


class Records(NamedTuple):
    """The records of some users, in the same order."""

    users: list[int]
    packed: list[bytes]


def flat(scores: Array, members: Array) -> list[int]:
    """Return scores and members in turn, as the scripts take them."""
    both = np.empty(2 * len(scores), "i8")
    both[::2], both[1::2] = scores, members
    pairs: list[int] = both.tolist()
    return pairs


def scores_in_order(items: Array) -> OrderedScores:
    """Return the scores of a scope from its items.

    The order is more solves, then the earlier latest date (none is last), then the user id.
    """
    has = np.flatnonzero(items["count"] > 0)
    users, counts, latest = (items[name][has] for name in ("user", "count", "latest"))
    latest = np.where(latest == NO_DATE, np.iinfo("i8").max, latest)
    order = np.lexsort((users, latest, -counts.astype("i8")))
    return OrderedScores(users[order], counts[order])
