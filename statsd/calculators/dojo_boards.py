"""All live boards of a dojo, from one pass over its solves.

The entries have the same form as those of one user in `statsd/calculators/user_entries.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from statsd import keys
from statsd.calculators import crews, dojo_stats, scoreboard
from statsd.calculators.counted import counted_solves
from statsd.calculators.dojo_stats import charted
from statsd.calculators.user_entries import chart_of, newest_columns, newest_of, record_of, score
from statsd.definitions import CHART_DAYS, WINDOWS
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
    """By scope and window (days), the scores by user."""
    records: dict[int, bytes]
    """By user; see `user_entries.record_of`."""
    newest: dict[int, datetime]
    """By user, the date of the newest solve, if it is recent."""
    until: dict[int, datetime]
    """By user, when the first solve leaves a window."""
    crews: dict[int, bytes]
    """By user with a tag; see `crews.packed`."""
    solves: int
    chart: list[tuple[int, int]]
    """Solves and users on each day of the chart."""


def boards_of(
    scopes: Sequence[Any], rows: Iterable[Any], active: Iterable[Any], tagged: Iterable[Any]
) -> Boards:
    """Return the boards of one dojo that exists.

    `scopes` and `rows` are the rows of the scoreboard's statements for this dojo, `active` and
    `tagged` those of `ACTIVE` and `crews.CHALLENGES`.
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


def _add_users(found: Boards, all_users: Any, recent: Mapping[int, Any]) -> None:
    """Add the records of all users of a dojo. `recent` are rows of `ACTIVE` by user."""
    no_solves = [0] * len(CHART_DAYS)
    for user_id, name, email in zip(
        all_users.user_ids, all_users.names, all_users.emails, strict=True
    ):
        own = recent.get(user_id)
        newest = newest_of(own) if own else []
        found.records[user_id] = record_of(chart_of(own) if own else no_solves, name, email, newest)
        if newest:
            found.newest[user_id] = newest[0].date
