"""The entries of one user on the live boards of one dojo, looked up by index.

They have the same form as those of a whole dojo in `statsd/calculators/dojo_boards.py`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from statsd import keys
from statsd.calculators import Cost, Input, crews, dojo_stats, scoreboard
from statsd.calculators.counted import counted_solves, paired
from statsd.calculators.dojo_stats import (
    CHALLENGE_NAME,
    NEWEST_FIRST,
    Newest,
    charted,
    is_recent,
)
from statsd.definitions import CHART_DAYS, RECENT_SOLVES, SCORE_UNIT, WINDOWS
from statsd.job import Job, microseconds, register_kind
from statsd.schema import dojo_challenges as row, submissions as solve, users as solver

COST = Cost(batch=200)  # pairs of a dojo and a user
DEPENDS_ON = Input.SOLVES | Input.USERS


class UserEntries(Job, frozen=True):
    """One user's entries on all boards of one dojo. The job has no cache keys of its own."""

    kind: ClassVar[str] = "user_entries"
    dojo_id: int
    user_id: int


register_kind(UserEntries)


class Entries(NamedTuple):
    """The entries of a user on the boards of a dojo."""

    scores: Mapping[str, Sequence[int]]
    """By scope, a score for each window, 0 where there is no entry."""
    record: bytes
    """Other data of the user; see `record_of`."""
    crew: bytes
    """The solves of a user with a tag; see `packed` in `statsd/calculators/crews.py`."""
    until: datetime | None
    """When the first solve leaves a window."""


NOTHING = Entries({}, b"", b"", None)


def score(solves: int, last: int) -> int:
    """Return the score of an entry, by which boards are ordered, the greatest first.

    More solves come first, then the smaller id of the last solve. Ids are below 2^31, so up to four
    million solves the score is exact in the 53 bits of a sorted set's scores.
    """
    return solves * SCORE_UNIT + (SCORE_UNIT - 1 - last)


def solves_in(score: int) -> int:
    """Return the number of solves in a score."""
    return score // SCORE_UNIT


def record_of(
    charted: Sequence[int], name: str | None, email: str | None, newest: Sequence[Newest]
) -> bytes:
    """Return the record that the boards keep of a user, in three parts with `|` between them.

    They are the numbers of solves on the days of the chart, the moment of the newest solve
    (microseconds; empty where it is not recent), and JSON with the name, the e-mail address and
    the newest solves. Scripts read the first two.
    """
    first = str(microseconds(newest[0].date)) if newest else ""
    text = orjson.dumps([name, email, [list(each) for each in newest]])
    return b"|".join([",".join(map(str, charted)).encode(), first.encode(), text])


def text_of(record: bytes) -> bytes:
    """Return the JSON in a record."""
    return record.split(b"|", 2)[2]


def person_in(text: bytes | str) -> tuple[str | None, str | None]:
    """Return name and e-mail address in the JSON of a record."""
    name, email, _ = orjson.loads(text)
    return name, email


def newest_in(record: bytes) -> list[Newest]:
    """Return the newest solves in a record."""
    _, _, newest = orjson.loads(text_of(record))
    return [Newest(datetime.fromisoformat(date), *rest) for date, *rest in newest]


# --- the statement


def _entries_by_user() -> "sa.Select[Any]":
    """Select, for each pair of dojo and user, arrays over the user's counted solves there.

    An aggregate in a LATERAL is planned for one pair, and uses the index by challenge and user.
    With a plain join of many pairs the planner would read all submissions.
    """
    pair = paired(dojo_id="dojos_of_pairs", user_id="users_of_pairs")
    solved = counted_solves(
        sa.func.array_agg(row.c.module_index).label("module_indexes"),
        sa.func.array_agg(solve.c.id).label("solve_ids"),
        sa.func.array_agg(solve.c.challenge_id).label("challenge_ids"),
        *[sa.func.array_agg(scoreboard.within(days)).label(f"within{days}") for days in WINDOWS],
        *charted(),
        *newest_columns(),
        *scoreboard.oldest(),
        of=sa.and_(row.c.dojo_id == pair.c.dojo_id, solve.c.user_id == pair.c.user_id),
    ).lateral()
    return sa.select(
        pair.c.dojo_id, pair.c.user_id, solver.c.name, solver.c.email, solved
    ).select_from(pair.join(solved, sa.true()).outerjoin(solver, solver.c.id == pair.c.user_id))


def newest_columns() -> "list[sa.Label[Any]]":
    """Return the newest solves, the newest first: an array for each of their fields."""
    columns = (
        solve.c.date,
        solve.c.id,
        row.c.module_index,
        row.c.challenge_index,
        CHALLENGE_NAME,
    )
    return [
        sa.func.array_agg(aggregate_order_by(column, *NEWEST_FIRST))
        .filter(is_recent())
        .label(f"newest_{field}")
        for field, column in zip(Newest._fields, columns, strict=True)
    ]


USER_ENTRIES = _entries_by_user()


def parameters(now: datetime) -> dict[str, Any]:
    """Return the parameters of the statement except for the pairs."""
    return dojo_stats.moments(now) | scoreboard.starts(now)


def pairs(jobs: Sequence[UserEntries]) -> dict[str, list[int]]:
    """Return the parameters that name the pairs."""
    return {
        "dojos_of_pairs": [each.dojo_id for each in jobs],
        "users_of_pairs": [each.user_id for each in jobs],
    }


def entries(found: Any) -> Entries:
    """Return a user's entries from a row of the statement."""
    if not found.solve_ids:
        return NOTHING
    within = zip(*[getattr(found, f"within{days}") for days in WINDOWS], strict=True)
    solved: defaultdict[str, list[list[tuple[int, int]]]]
    solved = defaultdict(lambda: [[] for _ in WINDOWS])
    for module_index, solve_id, challenge_id, flags in zip(
        found.module_indexes, found.solve_ids, found.challenge_ids, within, strict=True
    ):
        for scope in (keys.DOJO, keys.scope(module_index)):
            for i, is_within in enumerate(flags):
                if is_within:
                    solved[scope][i].append((solve_id, challenge_id))
    scores = {
        scope: [score(len(own), max(own)[0]) if own else 0 for own in of_windows]
        for scope, of_windows in solved.items()
    }
    record = record_of(chart_of(found), found.name, found.email, newest_of(found))
    return Entries(scores, record, _crew(found, solved), scoreboard.next_change(found))


def _crew(found: Any, solved: Mapping[str, Sequence[Sequence[tuple[int, int]]]]) -> bytes:
    """Return the record of a user with a tag, from the ids of solves and challenges."""
    scopes = {
        scope: [
            crews.Solved(len(own), sorted({challenge_id for _, challenge_id in own}))
            for own in of_windows
        ]
        for scope, of_windows in solved.items()
    }
    return crews.packed(found.name, found.email, scopes)


def chart_of(found: Any) -> list[int]:
    """Return the solves on each day of the chart in a row."""
    return [getattr(found, f"day{i}") for i in range(len(CHART_DAYS))]


def newest_of(found: Any) -> list[Newest]:
    """Return the newest solves in a row, at most as many as a dojo shows."""
    fields = [getattr(found, f"newest_{field}") or () for field in Newest._fields]
    return [Newest(*values) for values in zip(*fields, strict=True)][:RECENT_SOLVES]
