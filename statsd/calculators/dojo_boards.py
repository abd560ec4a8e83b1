"""What a whole dojo has on its live boards, in one pass over all its solves.

It has the same form as what `statsd/calculators/standing.py` looks up for one user.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from statsd import keys
from statsd.calculators import crews, dojo_stats, scoreboard
from statsd.calculators.counted import counted_solves
from statsd.calculators.dojo_stats import CHART_DAYS, charted
from statsd.calculators.scoreboard import WINDOWS
from statsd.calculators.user_entries import chart_of, newest_columns, newest_of, record_of, score
from statsd.schema import dojo_challenges as row, submissions as solve


def _active() -> "sa.Select[Any]":
    """Select the users who solved something since the first day of the chart, dojo by dojo."""
    earliest = max(range(len(CHART_DAYS)), key=CHART_DAYS.__getitem__)
    return (
        counted_solves(
            row.c.dojo_id, solve.c.user_id, *charted(), *newest_columns(), *scoreboard.oldest()
        )
        .where(solve.c.date >= dojo_stats.moment(f"start{earliest}"))
        .group_by(row.c.dojo_id, solve.c.user_id)
        .order_by(row.c.dojo_id)
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
    until: dict[int, datetime]
    """When users' first solves leave a window."""
    crews: dict[int, bytes]
    """What is kept of users who have a tag."""
    solves: int
    chart: list[tuple[int, int]]
    """Solves and users on each day of the chart."""


def boards_of(
    scopes: Sequence[Any], rows: Iterable[Any], active: Iterable[Any], tagged: Iterable[Any]
) -> Boards:
    """Return the boards of one dojo that exists.

    `scopes` and `rows` are what the scoreboard's statements give, `active` and `tagged` what
    `ACTIVE` and `crews.CHALLENGES` do, for that dojo.
    """
    indexes = [scope.module_index for scope in scopes if scope.module_index is not None]
    names = [keys.scope(index) for index in (None, *indexes)]
    scores: dict[tuple[str, int], dict[int, int]] = {
        (name, days): {} for name in names for days in WINDOWS
    }
    recent = {each.user_id: each for each in active}
    charts = [chart_of(found) for found in recent.values()]
    found = Boards(
        indexes,
        scores,
        records={},
        newest={},
        until={
            user_id: until
            for user_id, each in recent.items()
            if (until := scoreboard.next_change(each))
        },
        crews=crews.packed_of(tagged),
        solves=0,
        chart=[
            (sum(chart[i] for chart in charts), sum(chart[i] > 0 for chart in charts))
            for i in range(len(CHART_DAYS))
        ],
    )
    for each in rows:
        name = keys.scope(each.module_index)
        scores[name, each.days].update(
            zip(each.user_ids, map(score, each.solves, each.lasts), strict=True)
        )
        if (name, each.days) == (keys.DOJO, 0):
            _add_users(found, each, recent)
            found = found._replace(solves=sum(each.solves))
    return found


def _add_users(found: Boards, everyone: Any, recent: Mapping[int, Any]) -> None:
    """Put down the records of all users of a dojo; `recent` are rows of `ACTIVE`, by user."""
    nobody = [0] * len(CHART_DAYS)
    for user_id, name, email in zip(
        everyone.user_ids, everyone.names, everyone.emails, strict=True
    ):
        own = recent.get(user_id)
        newest = newest_of(own) if own else []
        found.records[user_id] = record_of(chart_of(own) if own else nobody, name, email, newest)
        if newest:
            found.newest[user_id] = newest[0].date
