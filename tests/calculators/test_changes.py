"""Each statistic changes by time only at the moments that its `changes` announces.

The test takes the statistics from the catalog, so that it covers a new one too, and those that are
parts of the arrays of a dojo.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings

from statsd.calculators import Calculator, Input, Values
from statsd.calculators.catalog import STATISTICS
from statsd.calculators.dojo_arrays import PARTS
from statsd.job import TICK, Job
from tests.oracles.naive import World
from tests.oracles.worlds import NOW, insert, worlds

STEPS = 8
"""The number of changes that are followed; a dojo's statistics change every day."""
SPANS = [timedelta(days=days) for days in (1, 8, 31, 400)]
"""From the last announced change."""
CALCULATORS = [
    # The moments at which live boards change by time are known to the boards alone.
    each
    for each in (*STATISTICS, *PARTS)
    if each.changes or Input.BOARDS not in each.depends_on
]


def at(
    connection: sa.Connection, calculator: Calculator[Any], jobs: list[Job], now: datetime
) -> tuple[Mapping[Job, Values], Mapping[Job, datetime]]:
    """Return the values of jobs at a moment, and when they next change."""
    parameters = calculator.parameters(jobs, now)
    rows = [connection.execute(each, parameters).all() for each in calculator.statements]
    return calculator.shape(rows), calculator.changes(rows, now) if calculator.changes else {}


def follow(connection: sa.Connection, calculator: Calculator[Any]) -> None:
    """Go from each change to the next, and compare values just before it, and at it."""
    jobs = [calculator.job(*row) for row in connection.execute(calculator.every)]
    now = NOW
    for _ in range(STEPS):
        values, changes = at(connection, calculator, jobs, now)
        assert all(moment > now for moment in changes.values()), "a change is in the past"
        following = min(changes.values(), default=None)
        after = [now + span for span in SPANS]
        moments = [following - TICK, following] if following else after
        for moment in moments:
            then, _ = at(connection, calculator, jobs, moment)
            for job in jobs:
                if changes.get(job, datetime.max) > moment:  # noqa: DTZ901 - naive UTC
                    assert then.get(job) == values.get(job), f"{job.name} changes before {moment}"
        if following is None:
            return
        now = following


@pytest.mark.parametrize("calculator", CALCULATORS, ids=lambda each: each.job.kind)
@given(world=worlds())
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_values_change_by_time_only_when_announced(
    engine: sa.Engine, calculator: Calculator[Any], world: World
) -> None:
    with engine.connect() as connection:
        insert(connection, world)
        follow(connection, calculator)
        connection.rollback()
