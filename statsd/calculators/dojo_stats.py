"""A dojo's statistics: totals, the chart, the newest solves; see docs/contract.md."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any, ClassVar, NamedTuple

import sqlalchemy as sa

from statsd import keys
from statsd.calculators import Calculator, Input, Values
from statsd.calculators.counted import (
    DOJO_IDS,
    among,
    counted_solves,
    every_dojo,
    leaves,
    row_and_visibility,
    visible_at,
)
from statsd.definitions import CHART_DAYS, RECENT_DAYS, RECENT_SOLVES
from statsd.job import Job
from statsd.schema import (
    dojo_challenge_visibilities as visibility,
    dojo_challenges as row,
    dojos,
    submissions as solve,
)

CHART_LABELS = ("Today", "1w ago", "1mo ago", "2mo ago")
RECENT = timedelta(days=RECENT_DAYS)
TREND_BOUNDS = (-99, 999)  # per cent


class Newest(NamedTuple):
    """One of the newest solves."""

    date: datetime
    challenge_name: str | None


class Totals(NamedTuple):
    """The numbers of counted solves and solvers of a dojo."""

    solves: int
    users: int
    chart: Sequence[tuple[int, int]]
    """Solves and users on each day of the chart."""


NOTHING = Totals(0, 0, ((0, 0),) * len(CHART_DAYS))


class DojoStats(Job, frozen=True):
    """The statistics of one dojo."""

    kind: ClassVar[str] = "dojo_stats"
    dojo_id: int


# For equal dates any order would do. A fixed one makes equal values equal to the byte.
NEWEST_FIRST = (solve.c.date.desc(), solve.c.id.desc(), row.c.module_index, row.c.challenge_index)
CHALLENGE_NAME = sa.func.coalesce(sa.func.nullif(row.c.name, ""), row.c.id)


def moment(parameter: str) -> "sa.BindParameter[datetime]":
    """Return a parameter that is bound to a moment (naive UTC)."""
    return sa.bindparam(parameter, type_=sa.DateTime)


def is_recent() -> "sa.ColumnElement[bool]":
    """Say that a solve is new enough to be among the newest."""
    return solve.c.date >= moment("recent")


def charted() -> "list[sa.Label[int]]":
    """Count solves on each day of the chart: `day0`, `day1`, ..."""
    return [
        sa.func.count()
        .filter(solve.c.date >= moment(f"start{i}"), solve.c.date < moment(f"stop{i}"))
        .label(f"day{i}")
        for i in range(len(CHART_DAYS))
    ]


def moments(now: datetime) -> dict[str, datetime]:
    """Return the parameters of the conditions above."""
    today = datetime.combine(now.date(), time.min)
    starts = {f"start{i}": today - timedelta(days=days) for i, days in enumerate(CHART_DAYS)}
    stops = {f"stop{i}": today - timedelta(days=days - 1) for i, days in enumerate(CHART_DAYS)}
    return {"recent": now - RECENT, **starts, **stops}


def _dojos() -> "sa.Select[Any]":
    """Select the dojos, their numbers of challenges, and when a visibility next begins or ends."""
    now = moment("now")
    start, stop = visibility.c.start, visibility.c.stop
    counts = (
        sa.select(
            row.c.dojo_id,
            sa.func.count().label("challenges"),
            sa.func.count().filter(visible_at(now)).label("visible_challenges"),
            sa.func.min(start).filter(start > now).label("next_start"),
            sa.func.min(stop).filter(stop >= now).label("next_stop"),
        )
        .select_from(row_and_visibility(among(visibility.c.dojo_id, DOJO_IDS)))
        .where(among(row.c.dojo_id, DOJO_IDS))
        .group_by(row.c.dojo_id)
        .subquery()
    )
    return (
        sa.select(
            dojos.c.dojo_id,
            dojos.c.id,
            sa.func.coalesce(dojos.c.official, sa.false()).label("official"),
            sa.func.coalesce(counts.c.challenges, 0).label("challenges"),
            sa.func.coalesce(counts.c.visible_challenges, 0).label("visible_challenges"),
            counts.c.next_start,
            counts.c.next_stop,
        )
        .select_from(dojos.outerjoin(counts, counts.c.dojo_id == dojos.c.dojo_id))
        .where(among(dojos.c.dojo_id, DOJO_IDS))
    )


def _totals() -> "sa.Select[Any]":
    """Select the totals of each dojo.

    They are counted by dojo and user first: then distinct users are rows, and need no sorting.
    """
    days = charted()
    user = (
        counted_solves(row.c.dojo_id, sa.func.count().label("solves"), *days)
        .group_by(row.c.dojo_id, solve.c.user_id)
        .subquery()
    )
    of_user = [user.c[day.name] for day in days]
    return sa.select(
        user.c.dojo_id,
        sa.func.sum(user.c.solves).label("solves"),
        sa.func.count().label("users"),
        *[sa.func.sum(day).label(f"{day.name}_solves") for day in of_user],
        *[sa.func.count().filter(day > 0).label(f"{day.name}_users") for day in of_user],
    ).group_by(user.c.dojo_id)


def _newest() -> "sa.Select[Any]":
    position = sa.func.row_number().over(partition_by=row.c.dojo_id, order_by=NEWEST_FIRST)
    newest = (
        counted_solves(
            row.c.dojo_id,
            CHALLENGE_NAME.label("challenge_name"),
            solve.c.date,
            position.label("position"),
        )
        .where(is_recent())
        .subquery()
    )
    return (
        sa.select(newest.c.dojo_id, newest.c.challenge_name, newest.c.date)
        .where(newest.c.position <= RECENT_SOLVES)
        .order_by(newest.c.dojo_id, newest.c.position)
    )


def parameters(jobs: Sequence[DojoStats], now: datetime) -> Mapping[str, Any]:
    """Return the parameters of the statements."""
    dojo_ids = [job.dojo_id for job in jobs]
    return {DOJO_IDS: dojo_ids, "now": now, **moments(now)}


def shape(results: Sequence[Sequence["sa.Row[Any]"]]) -> Mapping[DojoStats, Values]:
    """Return the value of each dojo that exists, under its key."""
    found, totals, newest = results
    total_of = {
        total.dojo_id: Totals(
            int(total.solves),
            total.users,
            [
                (int(getattr(total, f"day{i}_solves")), getattr(total, f"day{i}_users"))
                for i in range(len(CHART_DAYS))
            ],
        )
        for total in totals
    }
    newest_of = defaultdict(list)
    for solved in newest:
        newest_of[solved.dojo_id].append(solved)
    return {
        DojoStats(dojo.dojo_id): value(
            dojo, total_of.get(dojo.dojo_id, NOTHING), newest_of[dojo.dojo_id]
        )
        for dojo in found
    }


def changes(
    results: Sequence[Sequence["sa.Row[Any]"]], now: datetime
) -> Mapping[DojoStats, datetime]:
    """Return when the statistics of each dojo next change with time alone."""
    found, _, newest = results
    oldest = {solved.dojo_id: solved.date for solved in newest}  # they are in order
    return {
        DojoStats(dojo.dojo_id): next_change(dojo, oldest.get(dojo.dojo_id), now) for dojo in found
    }


def next_change(dojo: Any, oldest: datetime | None, now: datetime) -> datetime:
    """Return when the day ends, a visibility begins or ends, or a solve is no longer recent.

    `dojo` is a row of `DOJOS`; `oldest` is the date of the oldest of the recent solves.
    """
    midnight = datetime.combine(now.date(), time.min) + timedelta(days=1)
    moments = [
        midnight,
        dojo.next_start,
        dojo.next_stop and leaves(dojo.next_stop, timedelta(0)),
        oldest and leaves(oldest, RECENT),
    ]
    changes: list[datetime] = [moment for moment in moments if moment]
    return min(changes)


def value(dojo: Any, total: Totals, newest: Sequence[Any]) -> Values:
    """Return the value of a dojo, under its key.

    `dojo` is a row of `DOJOS`; `newest` are the recent solves, the newest first, with
    `challenge_name` and `date`.
    """
    key = keys.dojo_stats(keys.reference_id(dojo.dojo_id, dojo.id, official=dojo.official))
    return {key: _value(dojo.challenges, dojo.visible_challenges, total, newest)}


def empty() -> dict[str, Any]:
    """Return the value of a dojo that does not exist or was not computed yet."""
    return _value(0, 0, NOTHING, ())


def _value(challenges: int, visible: int, total: Totals, newest: Sequence[Any]) -> dict[str, Any]:
    solves, users = ([day[i] for day in total.chart] for i in (0, 1))
    return {
        "users": total.users,
        "challenges": challenges,
        "visible_challenges": visible,
        "solves": total.solves,
        "recent_solves": [_solve(solved.challenge_name, solved.date) for solved in newest],
        "trends": {
            "solves": _trend(solves[0], solves[1]),
            "users": _trend(users[0], users[1]),
            "active": 0,
            "challenges": 0,
        },
        "chart_data": {"labels": list(CHART_LABELS), "solves": solves, "users": users},
    }


def _solve(challenge_name: str | None, date: datetime) -> dict[str, Any]:
    return {
        "challenge_name": challenge_name,
        "date": date.isoformat(),
        "date_display": date.strftime("%m/%d/%y %I:%M %p"),
    }


def _trend(last: int, before: int) -> int:
    """Return the change in per cent, rounded half to even and clipped."""
    if before == 0:
        return 100 if last > 0 else 0
    lowest, highest = TREND_BOUNDS
    return max(lowest, min(highest, round((last - before) / before * 100)))


DOJOS = _dojos()
calculator = Calculator(
    job=DojoStats,
    every=every_dojo(),
    statements=(DOJOS, _totals(), _newest()),
    parameters=parameters,
    shape=shape,
    empty=empty,
    depends_on=Input.STRUCTURE | Input.BOARDS,
    changes=changes,
)
