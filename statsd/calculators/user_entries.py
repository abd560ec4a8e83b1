"""What one user has on the live boards of one dojo, looked up by index.

It has the same form as what `statsd/calculators/dojo_boards.py` gives for all of a dojo.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from statsd import keys
from statsd.calculators import crews, dojo_stats, scoreboard
from statsd.calculators.counted import counted_solves, paired
from statsd.calculators.dojo_stats import (
    CHALLENGE_NAME,
    CHART_DAYS,
    NEWEST_FIRST,
    RECENT_SOLVES,
    Newest,
    charted,
    is_recent,
)
from statsd.calculators.scoreboard import WINDOWS
from statsd.job import Job, microseconds, register_kind
from statsd.schema import dojo_challenges as row, submissions as solve, users as solver

BATCH = 200  # users of dojos

_RANKS = 1 << 31  # above every solve id


class UserEntries(Job, frozen=True):
    """One user's entries on all boards of one dojo."""

    kind: ClassVar[str] = "standing"
    dojo_id: int
    user_id: int


register_kind(UserEntries)


class Entries(NamedTuple):
    """What a user has on the boards of a dojo."""

    scores: Mapping[str, Sequence[int]]
    """By place: a score for each window, 0 where there is no entry."""
    record: bytes
    """What is kept beside the scores; see `record_of`."""
    crew: bytes
    """What is kept of one who has a tag; see `statsd/calculators/crews.py`."""
    until: datetime | None
    """When the first solve leaves a window."""


NOTHING = Entries({}, b"", b"", None)


def score(solves: int, last: int) -> int:
    """Return the number by which boards are ordered, the greatest first.

    More solves come first, then the smaller id of the last one. Both are below 2^31, and their
    pair is exact in the 53 bits that a sorted set's scores have, up to four million solves.
    """
    return solves * _RANKS + (_RANKS - 1 - last)


def solves_in(score: int) -> int:
    """Return the number of solves in a score."""
    return score // _RANKS


def record_of(
    charted: Sequence[int], name: str | None, email: str | None, newest: Sequence[Newest]
) -> bytes:
    """Return what the boards keep of a user beside the scores.

    The solves on the days of the chart, the moment of the newest solve (microseconds; none where
    it is older than those that are shown), and as JSON the name, the e-mail address and the newest
    solves. Scripts read the first two.
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


# --- a few users


def _entries_by_user() -> "sa.Select[Any]":
    """Select, for each pair of dojo and user, arrays over the user's counted solves there.

    An aggregate in a LATERAL is planned for one pair, which keeps to the index by challenge and
    user; joined plainly, many pairs make the planner read all submissions.
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
    """Return what both statements are bound to, beside the dojos or pairs."""
    return dojo_stats.moments(now) | scoreboard.starts(now)


def pairs(wanted: Sequence[UserEntries]) -> dict[str, list[int]]:
    """Return what names the pairs to the statement."""
    return {
        "dojos_of_pairs": [each.dojo_id for each in wanted],
        "users_of_pairs": [each.user_id for each in wanted],
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
    """Return what is kept of one who has a tag, from the ids of solves and challenges."""
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
    """Return the newest solves in a row, as many as are shown of a whole dojo."""
    fields = [getattr(found, f"newest_{field}") or () for field in Newest._fields]
    return [Newest(*values) for values in zip(*fields, strict=True)][:RECENT_SOLVES]
