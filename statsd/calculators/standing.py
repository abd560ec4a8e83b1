"""What one user has on the live boards of one dojo, and what the whole dojo has on them.

Both come from the same definitions, those of the contract's section 4, and in the same form: the
first for a few users, by index; the second in one pass over all that a dojo has.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from statsd.calculators import dojo_stats, scoreboard
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
from statsd.refresh import Refresh, register_kind
from statsd.schema import dojo_challenges as row, submissions as solve, users as solver

BATCH = 200  # users of dojos
DOJO = "dojo"
"""The place of the board of a whole dojo; those of modules are their indexes, as texts."""

_RANKS = 1 << 31  # above every solve id
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive UTC
_TICK = timedelta(microseconds=1)


class Standing(Refresh, frozen=True):
    """One user's entries on all boards of one dojo."""

    kind: ClassVar[str] = "standing"
    dojo_id: int
    user_id: int


register_kind(Standing)


class Entries(NamedTuple):
    """What a user has on the boards of a dojo."""

    scores: Mapping[str, Sequence[int]]
    """By place: a score for each window, 0 where there is no entry."""
    record: bytes
    """What is kept beside the scores; see `record_of`."""


NOTHING = Entries({}, b"")


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
    first = str(moment(newest[0].date)) if newest else ""
    text = orjson.dumps([name, email, [list(each) for each in newest]])
    return b"|".join([",".join(map(str, charted)).encode(), first.encode(), text])


def moment(date: datetime) -> int:
    """Return a moment (naive UTC) as microseconds; a double holds them."""
    return (date - _EPOCH) // _TICK


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


def _standings() -> "sa.Select[Any]":
    """Select, for each pair of dojo and user, arrays over the user's counted solves there.

    An aggregate in a LATERAL is planned for one pair, which keeps to the index by challenge and
    user; joined plainly, many pairs make the planner read all submissions.
    """
    pair = paired(dojo_id="dojos_of_pairs", user_id="users_of_pairs")
    solved = counted_solves(
        sa.func.array_agg(row.c.module_index).label("module_indexes"),
        sa.func.array_agg(solve.c.id).label("solve_ids"),
        *[sa.func.array_agg(scoreboard.within(days)).label(f"within{days}") for days in WINDOWS],
        *charted(),
        *_newest(),
        of=sa.and_(row.c.dojo_id == pair.c.dojo_id, solve.c.user_id == pair.c.user_id),
    ).lateral()
    return sa.select(
        pair.c.dojo_id, pair.c.user_id, solver.c.name, solver.c.email, solved
    ).select_from(pair.join(solved, sa.true()).outerjoin(solver, solver.c.id == pair.c.user_id))


def _newest() -> "list[sa.Label[Any]]":
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


STANDINGS = _standings()


def parameters(now: datetime) -> dict[str, Any]:
    """Return what both statements are bound to, beside the dojos or pairs."""
    return dojo_stats.moments(now) | scoreboard.starts(now)


def pairs(wanted: Sequence[Standing]) -> dict[str, list[int]]:
    """Return what names the pairs to the statement."""
    return {
        "dojos_of_pairs": [each.dojo_id for each in wanted],
        "users_of_pairs": [each.user_id for each in wanted],
    }


def entries(found: Any) -> Entries:
    """Return a user's entries from a row of the statement."""
    if not found.solve_ids:
        return NOTHING
    solves: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(WINDOWS))
    last: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(WINDOWS))
    for i, days in enumerate(WINDOWS):
        for module_index, solve_id, is_within in zip(
            found.module_indexes, found.solve_ids, getattr(found, f"within{days}"), strict=True
        ):
            for place in (DOJO, str(module_index)):
                solves[place][i] += bool(is_within)
                last[place][i] = max(last[place][i], solve_id if is_within else 0)
    scores = {
        place: [
            score(count, newest) if count else 0
            for count, newest in zip(counts, last[place], strict=True)
        ]
        for place, counts in solves.items()
    }
    return Entries(scores, record_of(_chart(found), found.name, found.email, newest_of(found)))


def _chart(found: Any) -> list[int]:
    return [getattr(found, f"day{i}") for i in range(len(CHART_DAYS))]


def newest_of(found: Any) -> list[Newest]:
    """Return the newest solves in a row, as many as are shown of a whole dojo."""
    fields = [getattr(found, f"newest_{field}") or () for field in Newest._fields]
    return [Newest(*values) for values in zip(*fields, strict=True)][:RECENT_SOLVES]


# --- whole dojos


def _active() -> "sa.Select[Any]":
    """Select, of each dojo, the users who solved something since the first day of the chart."""
    earliest = max(range(len(CHART_DAYS)), key=CHART_DAYS.__getitem__)
    return (
        counted_solves(row.c.dojo_id, solve.c.user_id, *charted(), *_newest())
        .where(solve.c.date >= dojo_stats.moment(f"start{earliest}"))
        .group_by(row.c.dojo_id, solve.c.user_id)
    )


ACTIVE = _active()


class Boards(NamedTuple):
    """All boards of a dojo."""

    module_indexes: list[int]
    scores: dict[tuple[str, int], dict[int, int]]
    """By place and window (days): users' scores."""
    records: dict[int, bytes]
    """By user."""
    newest: dict[int, datetime]
    """The moments of users' newest solves."""
    solves: int
    chart: list[tuple[int, int]]
    """Solves and users on each day of the chart."""


def boards(places: Iterable[Any], rows: Iterable[Any], active: Iterable[Any]) -> dict[int, Boards]:
    """Return the boards of each dojo that exists.

    `places` and `rows` are what the scoreboard's statements give, `active` is what `ACTIVE` does.
    """
    found: dict[int, Boards] = {}
    for place in places:
        own = found.get(place.dojo_id)
        if own is None:
            own = Boards(
                [], {(DOJO, days): {} for days in WINDOWS}, {}, {}, 0, [(0, 0)] * len(CHART_DAYS)
            )
            found[place.dojo_id] = own
        if place.module_index is not None:
            own.module_indexes.append(place.module_index)
            own.scores.update({(str(place.module_index), days): {} for days in WINDOWS})
    recent: defaultdict[int, dict[int, Any]] = defaultdict(dict)
    for each in active:
        recent[each.dojo_id][each.user_id] = each
    for each in rows:
        place = DOJO if each.module_index is None else str(each.module_index)
        own = found[each.dojo_id]
        own.scores[place, each.days].update(
            zip(each.user_ids, map(score, each.solves, each.lasts), strict=True)
        )
        if (place, each.days) == (DOJO, 0):
            found[each.dojo_id] = _with_users(own, each, recent[each.dojo_id])
    return found


def _with_users(own: Boards, everyone: Any, recent: Mapping[int, Any]) -> Boards:
    nobody = [0] * len(CHART_DAYS)
    for user_id, name, email in zip(
        everyone.user_ids, everyone.names, everyone.emails, strict=True
    ):
        found = recent.get(user_id)
        newest = newest_of(found) if found else []
        own.records[user_id] = record_of(_chart(found) if found else nobody, name, email, newest)
        if newest:
            own.newest[user_id] = newest[0].date
    charts = [_chart(found) for found in recent.values()]
    return own._replace(
        solves=sum(everyone.solves),
        chart=[
            (sum(chart[i] for chart in charts), sum(chart[i] > 0 for chart in charts))
            for i in range(len(CHART_DAYS))
        ],
    )
