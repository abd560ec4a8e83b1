"""The memberships and submissions of a made-up platform.

Users choose dojos by popularity and solve their challenges in order, so no user solves a
challenge twice. There can be millions of solves: they are kept as arrays of numbers (16 bytes a
solve) and become rows one slice of the history at a time.
"""

from array import array
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import itemgetter
from random import Random

from statsd.dev.sample.rows import HISTORY, Dojos, SampleRow, chance

SLICE = 20_000  # solves
RECENCY = 1.5
"""A share s of all solves is younger than HISTORY * s ** RECENCY: 0.9 % are of the last day."""
MISSES = ("incorrect", "incorrect", "incorrect", "incorrect", "discard", "partial")
ANONYMOUS = 5_000  # solves for each additional correct submission without a user


@dataclass
class History:
    """All solves and memberships."""

    users: "array[int]" = field(default_factory=lambda: array("I"))
    challenges: "array[int]" = field(default_factory=lambda: array("I"))
    slices: list["array[int]"] = field(default_factory=list)
    """The solves of each slice of time, as moment (in 2 ** 32nds of the history) << 32 | index."""
    members: list[SampleRow] = field(default_factory=list)

    @property
    def solves(self) -> int:
        """The number of solves."""
        return len(self.users)


def make_history(rng: Random, dojos: Dojos, users: int, solves: int) -> History:
    """Return a history with so many solves, or fewer if there are too few challenges."""
    history = History(slices=[array("Q") for _ in range(solves // SLICE + 1)])
    admins = {
        (number, rng.randint(1, users))
        for number in range(len(dojos.dojos))
        for _ in range(rng.randint(1, 3))
    }
    eagerness = [
        0.0 if chance(rng, 0.05) else min(rng.paretovariate(1.2), 40) for _ in range(users)
    ]
    remaining = sum(eagerness)
    for user, eager in enumerate(eagerness, 1):
        share = eager / remaining if remaining > eager else 1.0
        wanted = round((solves - history.solves) * share) if eager else 0
        remaining -= eager
        visited = _walk(rng, history, dojos, user, wanted)
        history.members += _join(rng, dojos, user, visited, admins)
    history.members += ((dojos.dojos[number][0], user, "admin") for number, user in sorted(admins))
    return history


def _walk(rng: Random, history: History, dojos: Dojos, user: int, wanted: int) -> list[int]:
    """Let a user solve challenges, dojo by dojo; return the indexes of the visited dojos."""
    popularity = dojos.popularity
    visited: list[int] = []
    solved: list[int] = []
    while len(solved) < wanted and len(visited) < len(popularity):
        number = bisect(popularity, rng.random() * popularity[-1])
        if number in visited:
            continue
        visited.append(number)
        path = [challenge for challenge in dojos.own[number] if not chance(rng, 0.08)]
        stamina = max(1, round(len(path) * rng.random() ** 0.6))
        solved += path[: min(stamina, wanted - len(solved))]
    _spread(rng, history, len(solved))
    history.challenges.extend(solved)
    history.users.extend([user] * len(solved))
    return visited


def _spread(rng: Random, history: History, count: int) -> None:
    """Give the next `count` solves their moments, in order, within a user's active time."""
    end = min(1.0, rng.random() * 1.2)  # many users are active until now
    start = max(0.0, end - 0.002 - rng.random() ** 2 / 2)
    for index in range(count):
        share = start + (end - start) * (index + rng.random()) / count
        moment = min(int(share * 2**32), 2**32 - 1)
        slices = history.slices
        slices[moment * len(slices) >> 32].append(moment << 32 | history.solves + index)


def _join(
    rng: Random, dojos: Dojos, user: int, visited: list[int], admins: set[tuple[int, int]]
) -> Iterator[SampleRow]:
    """Return a user's memberships, in 60 % of visited official dojos and 90 % of the others."""
    for number in visited:
        dojo_id, _, _, official, _, data = dojos.dojos[number]
        if (number, user) in admins:
            admins.remove((number, user))
            yield (dojo_id, user, "admin")
        elif chance(rng, 0.6 if official else 0.9):
            student = '"course"' in str(data) and chance(rng, 0.8)
            yield (dojo_id, user, "student" if student else "member")


def make_submissions(
    rng: Random, history: History, misses_per_solve: float, now: datetime
) -> Iterator[list[SampleRow]]:
    """Return the rows of `submissions` slice by slice, ordered by date, with ids from 1."""
    number = 1
    solves = 0
    for part in history.slices:
        rows: list[SampleRow] = []
        for code in sorted(part):
            index = code & 0xFFFFFFFF
            date = now - HISTORY * (1 - (code >> 32) / 2**32) ** RECENCY
            user, challenge = history.users[index], history.challenges[index]
            rows.append((challenge, user, date, "correct"))
            if solves % ANONYMOUS == 0:
                rows.append((challenge, None, date, "correct"))
            solves += 1
            for _ in range(int(solves * misses_per_solve) - int((solves - 1) * misses_per_solve)):
                missed = date - timedelta(minutes=90 * rng.random() ** 3)
                rows.append((challenge, user, missed, rng.choice(MISSES)))
        rows.sort(key=itemgetter(2))
        yield [(id_, *row) for id_, row in enumerate(rows, number)]
        number += len(rows)
