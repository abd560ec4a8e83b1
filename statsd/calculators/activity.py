"""Activity: the dates of a user's solves in the last year; see docs/contract.md."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from statsd import keys
from statsd.calculators import Calculator, Cost, Input, Values
from statsd.calculators.counted import among, leaves
from statsd.job import Job, Priority
from statsd.schema import CORRECT, submissions as solve, users

YEAR = timedelta(days=365)
BATCH = 5000  # users, since all of a batch share one read of all solves
PART = 250  # users
USER_IDS = "user_ids"
"""The name of the parameter with the ids of the users."""


class Activity(Job, frozen=True):
    """One user's solves of all challenges."""

    kind: ClassVar[str] = "activity"
    priority: ClassVar[Priority] = Priority.EXPORT  # it waits, so that many users share a scan
    user_id: int


def _every() -> "sa.Select[Any]":
    """List the users who solved anything, the busiest first."""
    return (
        sa.select(solve.c.user_id)
        .where(solve.c.type == CORRECT, solve.c.user_id.is_not(None))
        .group_by(solve.c.user_id)
        .order_by(sa.func.count().desc(), solve.c.user_id)
    )


def _solves() -> "sa.Select[Any]":
    """Select each user's dates, in the order of the ids of the solves.

    No index of the solves has the user first. The planner chooses between the index that has the
    user second and a scan of all solves, by the number of users.
    """
    return (
        sa.select(
            solve.c.user_id,
            sa.func.array_agg(aggregate_order_by(solve.c.date, solve.c.id)).label("dates"),
        )
        .where(
            solve.c.type == CORRECT,
            among(solve.c.user_id, USER_IDS),
            solve.c.date >= sa.bindparam("since", type_=sa.DateTime),
        )
        .group_by(solve.c.user_id)
        .order_by(solve.c.user_id)
    )


_USERS = sa.select(users.c.id).where(among(users.c.id, USER_IDS)).order_by(users.c.id)


def parameters(jobs: Sequence[Activity], now: datetime) -> Mapping[str, Any]:
    """Return the parameters of the statements."""
    return {USER_IDS: [job.user_id for job in jobs], "since": now - YEAR}


def shape(results: Sequence[Sequence["sa.Row[Any]"]]) -> Mapping[Activity, Values]:
    """Return the value of each user who exists."""
    found, solves = results
    dates = {each.user_id: each.dates for each in solves}
    return {
        Activity(user.id): {keys.activity(user.id): _value(dates.get(user.id, ()))}
        for user in found
    }


def changes(
    results: Sequence[Sequence["sa.Row[Any]"]], _now: datetime
) -> Mapping[Activity, datetime]:
    """Return when the oldest solve of each user leaves the last year."""
    return {
        Activity(each.user_id): moment
        for each in results[1]
        if (moment := leaves(min(each.dates), YEAR))
    }


def _value(dates: Sequence[datetime]) -> dict[str, Any]:
    return {
        "solve_timestamps": [f"{date.isoformat()}Z" for date in dates],
        "total_solves": len(dates),
    }


def empty() -> dict[str, Any]:
    """Return the value of a user who solved nothing."""
    return _value(())


def key(job: Activity) -> str:
    """Return the cache key of a user."""
    return keys.activity(job.user_id)


calculator = Calculator(
    job=Activity,
    every=_every(),
    statements=(_USERS, _solves()),
    parameters=parameters,
    shape=shape,
    key=key,
    empty=empty,
    depends_on=Input.SOLVES | Input.USERS,
    changes=changes,
    cost=Cost(batch=BATCH, part=PART),
)
