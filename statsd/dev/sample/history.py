"""The memberships and submissions of a made-up platform.

No user solves a challenge twice. There can be millions of solves: they are kept as arrays of
numbers (16 bytes a solve, 8 a membership) and become rows one slice of the history at a time.
"""

from array import array
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import itemgetter
from random import Random

from statsd.dev.sample.rows import (
    HISTORY,
    LARGEST,
    OTHERS,
    Dojos,
    SampleRow,
    Shape,
    chance,
)

SLICE = 20_000  # solves
RECENCY = 1.5
"""A share s of all solves is younger than HISTORY * s ** RECENCY: 0.9 % are of the last day."""
MISSES = ("incorrect", "incorrect", "incorrect", "incorrect", "discard", "partial")
ANONYMOUS = 5_000  # solves for each additional correct submission without a user
RUN = 5  # solves of one visit, at most, where users solve here and there
VISITS = 20  # for each solve that is wanted there, at most
HANDFUL = 5  # users of a small dojo beside a giant
IDLE_USERS = 0.05  # the share of users without solves
OF_GIANT = 0.9  # the share of users who have solves in the giant dojo
MEMBERSHIPS = ("member", "student", "admin")


@dataclass
class History:
    """All solves and memberships."""

    users: "array[int]" = field(default_factory=lambda: array("I"))
    challenges: "array[int]" = field(default_factory=lambda: array("I"))
    slices: list["array[int]"] = field(default_factory=list)
    """The solves of each slice of time, as moment (in 2 ** 32nds of the history) << 32 | index."""
    members: "array[int]" = field(default_factory=lambda: array("Q"))
    """Memberships, as index of the dojo << 34 | index in MEMBERSHIPS << 32 | user."""
    admins: set[tuple[int, int]] = field(default_factory=set)
    """Index of the dojo and user of each admin who has not joined yet."""

    @property
    def solves(self) -> int:
        """The number of solves."""
        return len(self.users)

    def join(self, number: int, user: int, kind: str) -> None:
        """Add a membership."""
        self.members.append(number << 34 | MEMBERSHIPS.index(kind) << 32 | user)

    def member_rows(self, dojos: Dojos) -> Iterator[SampleRow]:
        """Return the rows of `dojo_users`."""
        for code in self.members:
            kind = MEMBERSHIPS[code >> 32 & 3]
            yield (dojos.dojos[code >> 34][0], code & 0xFFFFFFFF, kind)


def make_history(
    rng: Random, dojos: Dojos, users: int, solves: int, shape: Shape = Shape.WALK
) -> History:
    """Return a history with so many solves, or fewer if there are too few challenges."""
    history = History(slices=[array("Q") for _ in range(solves // SLICE + 1)])
    history.admins = {
        (number, rng.randint(1, users))
        for number in range(len(dojos.dojos))
        for _ in range(rng.randint(1, (OTHERS if number else LARGEST)[shape].admins))
    }
    eagerness = [
        0.0 if chance(rng, IDLE_USERS) else min(rng.paretovariate(1.2), 40) for _ in range(users)
    ]
    remaining = sum(eagerness)
    choose = _CHOICES[shape]
    for user, eager in enumerate(eagerness, 1):
        share = eager / remaining if remaining > eager else 1.0
        wanted = round((solves - history.solves) * share) if eager else 0
        remaining -= eager
        visited, solved = choose(rng, dojos, users, wanted)
        _spread(rng, history, len(solved))
        history.challenges.extend(solved)
        history.users.extend([user] * len(solved))
        _join(rng, dojos, history, user, visited)
    for number, user in sorted(history.admins):
        history.join(number, user, "admin")
    return history


def _walk(rng: Random, dojos: Dojos, _users: int, wanted: int) -> "Chosen":
    """Let a user solve challenges, dojo by dojo, in order."""
    visited: list[int] = []
    solved: list[int] = []
    while len(solved) < wanted and len(visited) < len(dojos.popularity):
        number = _popular(rng, dojos)
        if number in visited:
            continue
        visited.append(number)
        path = [challenge for challenge in dojos.own[number] if not chance(rng, 0.08)]
        stamina = max(1, round(len(path) * rng.random() ** 0.6))
        solved += path[: min(stamina, wanted - len(solved))]
    return visited, solved


def _scatter(rng: Random, dojos: Dojos, _users: int, wanted: int) -> "Chosen":
    """Let a user solve a few challenges of a module, then of a module of any other dojo."""
    visited: dict[int, None] = {}
    solved: dict[int, None] = {}
    for _ in range(VISITS * wanted):
        if len(solved) >= wanted:
            break
        number = _popular(rng, dojos)
        visited[number] = None
        module = rng.choice(dojos.content[number])
        run = rng.randint(1, RUN)
        first = rng.randint(0, max(0, len(module) - run))
        for challenge in module[first : first + run]:
            if len(solved) < wanted:
                solved[challenge] = None
    return [*visited], [*solved]


def _giant(rng: Random, dojos: Dojos, users: int, wanted: int) -> "Chosen":
    """Let a user solve all of a few small dojos, and begin the giant one, which is the first."""
    if not wanted:
        return [], []
    small = len(dojos.own) - 1
    has_giant = chance(rng, OF_GIANT / (1 - IDLE_USERS))
    count = int(HANDFUL * small / users / (1 - IDLE_USERS) + rng.random())
    visited = rng.sample(range(1, small + 1), min(count, small))
    solved = [
        challenge for number in visited for challenge in dojos.own[number] if not chance(rng, 0.08)
    ]
    del solved[wanted - has_giant :]
    if has_giant:
        visited.append(0)
        path = [challenge for challenge in dojos.own[0] if not chance(rng, 0.08)]
        solved += path[: wanted - len(solved)]
    return visited, solved


Chosen = tuple[Sequence[int], Sequence[int]]
"""The indexes of visited dojos, and the ids of solved challenges in order."""
_CHOICES: dict[Shape, Callable[[Random, Dojos, int, int], Chosen]] = {
    Shape.WALK: _walk,
    Shape.SCATTER: _scatter,
    Shape.GIANT: _giant,
}


def _popular(rng: Random, dojos: Dojos) -> int:
    """Choose the index of a dojo by its popularity."""
    return bisect(dojos.popularity, rng.random() * dojos.popularity[-1])


def _spread(rng: Random, history: History, count: int) -> None:
    """Give the next `count` solves their moments, in order, within a user's active time."""
    end = min(1.0, rng.random() * 1.2)  # many users are active until now
    start = max(0.0, end - 0.002 - rng.random() ** 2 / 2)
    for index in range(count):
        share = start + (end - start) * (index + rng.random()) / count
        moment = min(int(share * 2**32), 2**32 - 1)
        slices = history.slices
        slices[moment * len(slices) >> 32].append(moment << 32 | history.solves + index)


def _join(rng: Random, dojos: Dojos, history: History, user: int, visited: Sequence[int]) -> None:
    """Let a user join 60 % of visited official dojos and 90 % of the others."""
    for number in visited:
        _, _, _, official, _, data = dojos.dojos[number]
        if (number, user) in history.admins:
            history.admins.remove((number, user))
            history.join(number, user, "admin")
        elif chance(rng, 0.6 if official else 0.9):
            student = '"course"' in str(data) and chance(rng, 0.8)
            history.join(number, user, "student" if student else "member")


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
