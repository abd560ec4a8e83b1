"""Everything that follows from the entries of a dojo, in NumPy.

The scripts derive the same for one user (`follow_from` in statsd/boards/lua/state.lua). Tests hold
both against the full calculations and against naive ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np

from statsd import keys
from statsd.boards.columns import RECORD_ENTRY, Array, Entries, starts_of_groups
from statsd.calculators.user_entries import COUNTED, SCORED, VISIBLE
from statsd.definitions import CHART_SPAN, NO_DATE, RECENT_DAYS, SCORE_UNIT, WINDOWS
from statsd.job import TICK

DAY = timedelta(days=1) // TICK
SCORED_ITEM = np.dtype([("user", "<u4"), ("count", "<u4"), ("latest", "<i8")])
RANK_ITEM = np.dtype([("score", "<i8"), ("user", "<u4")])
RANK_SENTINEL = np.zeros(1, RANK_ITEM).tobytes()
SCORED_SENTINEL = np.zeros(1, SCORED_ITEM).tobytes()


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

    def packed(self) -> bytes:
        """Return the entries as a state keeps them."""
        items = np.empty(len(self.users), RANK_ITEM)
        items["score"], items["user"] = self.scores, self.users
        return RANK_SENTINEL + items.tobytes()


def unpacked_ranking(scope: str, days: int, ranks: bytes) -> Ranking:
    """Return a board as a state keeps it."""
    items = np.frombuffer(ranks, RANK_ITEM)[1:]
    return Ranking(scope, days, items["user"], items["score"])


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

    def rankings(self) -> Iterator[Ranking]:
        """Yield all boards: of the dojo and of each module, in each window."""
        order = np.argsort(self._pair_modules, kind="stable")
        bounds = np.searchsorted(self._pair_modules[order], np.array(self.modules, "i4"), "left")
        ends = np.searchsorted(self._pair_modules[order], np.array(self.modules, "i4"), "right")
        for days in WINDOWS:
            within = self._within(days)
            scores = self._scores_of(within, self._user_starts)
            yield _ranking(keys.DOJO, days, self.users, scores)
            of_pairs = self._scores_of(within, self._module_starts)
            for module, first, end in zip(self.modules, bounds, ends, strict=True):
                own = order[first:end]
                yield _ranking(str(module), days, self._pair_users[own], of_pairs[own])

    def _scores_of(self, within: Array, starts: Array) -> Array:
        """Return the score of each group of entries; 0 for a group without any in the window."""
        if not len(starts):
            return np.empty(0, "i8")
        solves = np.add.reduceat(within.astype("i8"), starts)
        last = np.maximum.reduceat(np.where(within, self.entries.solve, -1), starts)
        return np.where(solves > 0, solves * SCORE_UNIT + (SCORE_UNIT - 1 - last), 0)

    def scored(self) -> Mapping[int, Array]:
        """Return the scores of each module as stored: items in the order of user ids."""
        if not len(self._module_starts):
            return {module: np.empty(0, SCORED_ITEM) for module in self.modules}
        counts = np.add.reduceat(self._is_scored.astype("u4"), self._module_starts)
        latest = np.maximum.reduceat(
            np.where(self._is_scored, self.entries.date, NO_DATE), self._module_starts
        )
        found = {}
        for module in self.modules:
            own = (self._pair_modules == module) & (counts > 0)
            items = np.empty(int(own.sum()), SCORED_ITEM)
            items["user"], items["count"] = self._pair_users[own], counts[own]
            items["latest"] = latest[own]
            found[module] = items
        return found

    def records(
        self, token: int, names: Mapping[int, int], scored: Mapping[int, Array]
    ) -> "Records":
        """Return the records of all users; `names` has the digest of each user's name."""
        headers = np.empty(len(self.users), _HEADER)
        headers["token"] = token
        headers["name"] = [names.get(user, 0) for user in self.users.tolist()]
        ends = np.append(self._user_starts[1:], self.entries.size)[: len(self.users)]
        headers["count"] = ends - self._user_starts
        users, places = _places(scored)
        parts = (
            _parts(headers.tobytes(), np.arange(len(headers)), 1, _HEADER.itemsize),
            _parts(self.entries.packed(), self._user_starts, ends, RECORD_ENTRY.itemsize),
            _parts(
                places.tobytes(),
                np.searchsorted(users, self.users, "left"),
                np.searchsorted(users, self.users, "right"),
                _PLACE.itemsize,
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
        of_users = np.unique((days << 32) + users) >> 32
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


_HEADER = np.dtype([("token", "<i8"), ("name", "<u4"), ("count", "<u4")])
_PLACE = np.dtype([("module", "<i4"), ("place", "<u4")])


def _places(scored: Mapping[int, Array]) -> tuple[Array, Array]:
    """Return users in order, and the place of each in the scores of a module."""
    if not scored:
        return np.empty(0, "u4"), np.empty(0, _PLACE)
    users = np.concatenate([items["user"] for items in scored.values()])
    places = np.empty(len(users), _PLACE)
    places["module"] = np.repeat([*scored], [*map(len, scored.values())])
    places["place"] = np.concatenate([np.arange(1, len(each) + 1) for each in scored.values()])
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


def _ranking(scope: str, days: int, users: Array, scores: Array) -> Ranking:
    has = scores > 0
    users, scores = users[has], scores[has]
    order = np.argsort(-scores, kind="stable")
    return Ranking(scope, days, users[order], scores[order])


def scores_in_order(*items: Array) -> OrderedScores:
    """Return the scores of a module, or of a dojo from those of all its modules.

    The order is more solves, then the earlier latest date (none is last), then the user id.
    """
    all_items = np.concatenate(items) if items else np.empty(0, SCORED_ITEM)
    all_items = all_items[all_items["count"] > 0]
    all_items = all_items[np.argsort(all_items["user"], kind="stable")]
    starts = starts_of_groups(all_items["user"])
    if not len(starts):
        return OrderedScores(np.empty(0, "u4"), np.empty(0, "u4"))
    users = all_items["user"][starts]
    counts = np.add.reduceat(all_items["count"].astype("i8"), starts)
    latest = np.maximum.reduceat(all_items["latest"], starts)
    latest = np.where(latest == NO_DATE, np.iinfo("i8").max, latest)
    order = np.lexsort((users, latest, -counts))
    return OrderedScores(users[order], counts[order])
