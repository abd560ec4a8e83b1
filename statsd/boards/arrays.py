"""Arrays: the contract's JSON of scoreboards, crews, scores and challenge solves."""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import orjson

from statsd import keys
from statsd.boards.columns import RECORD_ENTRY, Array, sorted_once, starts_of_groups
from statsd.boards.shape import DAY, OrderedScores, Ranking
from statsd.calculators.crew_tags import Member, ranked
from statsd.calculators.user_entries import COUNTED, Person, packed_entries


class ArrayName(NamedTuple):
    """An array as a state names it: see `dirty` in statsd/boards/lua/state.lua."""

    name: str

    @property
    def kind(self) -> str:
        """`b`: a scoreboard and its crews, `s`: scores, `c`: challenge solves."""
        return self.name[0]

    @property
    def scope(self) -> str:
        """`dojo`, or the index of a module."""
        return self.name.split(":")[1]

    @property
    def days(self) -> int:
        """The window of a scoreboard."""
        return int(self.name.split(":")[2])

    def keys(self, dojo_id: int) -> list[str]:
        """Return the keys of the values."""
        where = (dojo_id, keys.module_index_of(self.scope))
        if self.kind == "b":
            return [keys.scoreboard(*where, self.days), keys.crews(*where, self.days)]
        if self.kind == "s":
            return [keys.scores(*where)]
        return [keys.challenge_solves(dojo_id, int(self.scope))]


Tails = Mapping[int, bytes]
"""By user, the end of its entries on boards in JSON: user id, name and e-mail address."""


def tail_of(user: int, person: Person) -> bytes:
    """Return the end of a user's entries on boards."""
    fields = {"user_id": user, "name": person.name, "email": person.email}
    return b"," + orjson.dumps(fields)[1:] + b","


class _Texts:
    """Texts of the numbers from 0 on, each formatted once."""

    def __init__(self, form: bytes) -> None:
        self._form = form
        self._texts: list[bytes] = []

    def up_to(self, number: int) -> list[bytes]:
        """Return the texts of all numbers up to this one, or of more."""
        texts = self._texts
        if len(texts) <= number:  # threads may be here at once: each makes a list of its own
            texts = [*texts, *(self._form % each for each in range(len(texts), number + 1))]
            self._texts = texts
        return texts


_RANKS, _SOLVES = _Texts(b'{"rank":%d,"solves":'), _Texts(b"%d")


def of_board(
    dojo_id: int, ranking: Ranking, tagged: "Tagged", tails: Tails, now: int
) -> dict[str, bytes]:
    """Return the arrays of a scoreboard and of its crews, by key.

    `tagged` are the users on the board whose name has a tag, or more; `now` is the moment in
    microseconds since 1970.
    """
    board = (dojo_id, keys.module_index_of(ranking.scope), ranking.days)
    return {
        keys.scoreboard(*board): scoreboard(ranking, tails),
        keys.crews(*board): crews(ranking, tagged, tails, now),
    }


def scoreboard(ranking: Ranking, tails: Tails) -> bytes:
    """Return the array of a scoreboard."""
    users, solves = ranking.users.tolist(), ranking.solves.tolist()
    if not users:
        return b"[]"
    texts = _SOLVES.up_to(max(solves))
    parts: list[bytes] = [b""] * (3 * len(users))
    parts[0::3] = _RANKS.up_to(len(users))[1 : len(users) + 1]
    parts[1::3] = map(texts.__getitem__, solves)
    parts[2::3] = map(tails.__getitem__, users)
    return b"[%b]" % b"".join(parts)[:-1]


def scores(found: OrderedScores) -> bytes:
    """Return the object of scores."""
    users = found.users.tolist()
    counts = dict(zip(users, found.counts.tolist(), strict=True))
    return orjson.dumps({"ranks": users, "solves": counts}, option=orjson.OPT_NON_STR_KEYS)


def challenge_solves(found: Mapping[int, int]) -> bytes:
    """Return the object of challenge solves; challenges without solves are left out."""
    return orjson.dumps(
        {str(challenge): count for challenge, count in sorted(found.items()) if count > 0}
    )


class Tagged:
    """The counted entries of the users of a dojo whose name has a tag."""

    def __init__(self, users: Array, entries: Array) -> None:
        """Take the user of each entry, and the entries, with the fields of `RECORD_ENTRY`."""
        is_counted = (entries["flags"] & COUNTED) > 0
        self._users, self._entries = users[is_counted], entries[is_counted]
        self.users = sorted_once(self._users)
        """The users with any counted entry, in order."""

    def challenges(self, scope: str, earliest: int | None) -> dict[int, list[int]]:
        """Return the sorted ids of the challenges that each user solved in a scope.

        They are those from a date on (microseconds since 1970), or of all time.
        """
        chosen = np.ones(len(self._users), bool)
        if scope != keys.DOJO:
            chosen &= self._entries["module"] == int(scope)
        if earliest is not None:
            chosen &= self._entries["date"] >= earliest
        pairs = (self._users[chosen].astype("i8") << 32) + self._entries["challenge"][chosen]
        pairs = sorted_once(pairs)
        users, challenges = pairs >> 32, (pairs & 0xFFFFFFFF).tolist()
        starts = starts_of_groups(users)
        ends = [*starts[1:].tolist(), len(challenges)]
        return {
            user: challenges[first:end]
            for user, first, end in zip(
                users[starts].tolist(), starts.tolist(), ends[: len(starts)], strict=True
            )
        }


NO_TAGGED = Tagged(np.empty(0, "i8"), np.empty(0, RECORD_ENTRY))


def tagged_of(records: Mapping[int, bytes]) -> Tagged:
    """Return the users of some records, by user."""
    size = RECORD_ENTRY.itemsize
    packed = {user: packed_entries(record) for user, record in records.items()}
    counts = [len(each) // size for each in packed.values()]
    users = np.repeat(np.array([*packed], "i8"), counts)
    return Tagged(users, np.frombuffer(b"".join(packed.values()), RECORD_ENTRY))


def crews(ranking: Ranking, tagged: Tagged, tails: Tails, now: int) -> bytes:
    """Return the array of the crews on a board, as `of_board`."""
    places = np.flatnonzero(np.isin(ranking.users, tagged.users))
    if not len(places):
        return b"[]"
    earliest = now - ranking.days * DAY if ranking.days else None
    challenges = tagged.challenges(ranking.scope, earliest)
    users, solves = ranking.users[places].tolist(), ranking.solves[places].tolist()
    ranks, numbers = _RANKS.up_to(int(places[-1]) + 1), _SOLVES.up_to(max(solves))
    members = []
    for rank, user, count in zip((places + 1).tolist(), users, solves, strict=True):
        own, tail = challenges.get(user, []), tails[user]
        parts = (ranks[rank], numbers[count], tail[:-2], b',"challenges":', orjson.dumps(own), b"}")
        shown = orjson.Fragment(b"".join(parts))
        members.append(Member(rank, count, _name_in(tail), own, shown))
    return orjson.dumps(ranked(members))


@lru_cache(maxsize=20_000)  # the same users are on many boards
def _name_in(tail: bytes) -> str | None:
    """Return the name in the end of a user's entries."""
    name: str | None = orjson.loads(b"{" + tail[1:-1])["name"]
    return name
