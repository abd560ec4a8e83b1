"""Activity: the dates of a user's solves in the last year; see docs/contract.md."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from statsd import keys
from statsd.calculators import Calculator, Cost, Input, Values
from statsd.calculators.counted import among, integers, leaves, paired
from statsd.job import Job, Priority
from statsd.schema import CORRECT, submissions as solve, users

YEAR = timedelta(days=365)
BATCH = 5000  # users, since all of a batch share one read of all solves
PART = 250  # users
FEW_USERS = 500
"""For up to so many users the index is read; for more of them, of 20,000, the table takes less."""

USER_IDS, FEW, MANY = "user_ids", "few_users", "many_users"
"""The names of the parameters with the ids of users."""
KNOWN, CHALLENGES = "known_users", "known_challenges"
"""The names of the parameters with pairs of a user and a challenge."""
_SINCE = sa.bindparam("since", type_=sa.DateTime)


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
    """Select each user's dates of the last year, in the order of the ids of the solves.

    No index of the solves has the user first. So the cheapest way depends on what is known, and on
    the number of users:

    - `KNOWN`: the challenges are known that the user may have solved; each is looked up.
    - `FEW`: the index of all solves, which has the user second, is read once, and the solves that
      it names are looked up. This reads no submission that is not the user's.
    - `MANY`: the solves of all these users are so many that they are found in the table.

    The arrays of all have their users; an empty array costs nothing.
    """
    found = _of_known().union_all(_of_few(), _of_many()).subquery()
    return (
        sa.select(
            found.c.user_id,
            sa.func.array_agg(aggregate_order_by(found.c.date, found.c.id)).label("dates"),
            sa.func.array_agg(found.c.challenge_id.distinct()).label("challenges"),
        )
        .group_by(found.c.user_id)
        .order_by(found.c.user_id)
    )


def _of_known() -> "sa.Select[Any]":
    pair = paired(user_id=KNOWN, challenge_id=CHALLENGES)
    return _looked_up(sa.select(pair.c.user_id, pair.c.challenge_id).where(_has_any(KNOWN)))


def _of_few() -> "sa.Select[Any]":
    named = solve.alias("named")
    return _looked_up(
        sa.select(named.c.user_id, named.c.challenge_id).where(
            named.c.type == CORRECT, among(named.c.user_id, FEW), _has_any(FEW)
        )
    )


def _looked_up(wanted: "sa.Select[Any]") -> "sa.Select[Any]":
    """Select the solves of pairs of a user and a challenge.

    Each OFFSET keeps its part apart. Otherwise the planner may join all solves of the year.
    """
    pairs = wanted.offset(sa.literal_column("0")).subquery()
    one = solve.alias()
    looked_up = (
        sa.select(one.c.id, one.c.date)
        .where(
            one.c.challenge_id == pairs.c.challenge_id,
            one.c.user_id == pairs.c.user_id,
            one.c.type == CORRECT,
            one.c.date >= _SINCE,
        )
        .offset(sa.literal_column("0"))
        .lateral()
    )
    return sa.select(
        pairs.c.user_id, looked_up.c.id, looked_up.c.date, pairs.c.challenge_id
    ).select_from(pairs.join(looked_up, sa.true()))


def _of_many() -> "sa.Select[Any]":
    return sa.select(solve.c.user_id, solve.c.id, solve.c.date, solve.c.challenge_id).where(
        solve.c.type == CORRECT,
        among(solve.c.user_id, MANY),
        solve.c.date >= _SINCE,
        _has_any(MANY),
    )


def _has_any(parameter: str) -> "sa.ColumnElement[bool]":
    """Say that an array has elements; PostgreSQL asks before it reads the table."""
    return sa.func.cardinality(integers(parameter)) > 0


_USERS = sa.select(users.c.id).where(among(users.c.id, USER_IDS)).order_by(users.c.id)


def parameters(jobs: Sequence[Activity], now: datetime) -> Mapping[str, Any]:
    """Return the parameters of the statements."""
    return known_parameters(jobs, now, {})


def known_parameters(
    jobs: Sequence[Activity], now: datetime, known: Mapping[Activity, Sequence[int]]
) -> Mapping[str, Any]:
    """Return the parameters where the challenges of some users are known."""
    others = [job.user_id for job in jobs if job not in known]
    few, many = ([], others) if len(others) > FEW_USERS else (others, [])
    pairs = [(job.user_id, each) for job, challenges in known.items() for each in {*challenges}]
    return {
        USER_IDS: [job.user_id for job in jobs],
        FEW: few,
        MANY: many,
        KNOWN: [user_id for user_id, _ in pairs],
        CHALLENGES: [challenge_id for _, challenge_id in pairs],
        "since": now - YEAR,
    }


def shape(results: Sequence[Sequence["sa.Row[Any]"]]) -> Mapping[Activity, Values]:
    """Return the value of each user who exists."""
    found, solves = results
    dates = {each.user_id: each.dates for each in solves}
    return {
        Activity(user.id): {keys.activity(user.id): _value(dates.get(user.id, ()))}
        for user in found
    }


def record(results: Sequence[Sequence["sa.Row[Any]"]]) -> Mapping[Activity, Mapping[str, Any]]:
    """Return the challenges of the solves, for the next value of each user who exists."""
    challenges = {each.user_id: each.challenges for each in results[1]}
    return {Activity(user.id): {"known_solves": challenges.get(user.id, [])} for user in results[0]}


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
    known_parameters=known_parameters,
    record=record,
    cost=Cost(batch=BATCH, part=PART),
)
