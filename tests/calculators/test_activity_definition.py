"""Activity against the definition in plain Python, over random small databases."""

from datetime import timedelta

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings, strategies as st

from statsd.calculators import activity
from statsd.calculators.activity import Activity
from tests.oracles.naive import World
from tests.oracles.naive_awards import activity as naive_activity
from tests.oracles.worlds import NOW, insert, worlds

YEAR_AGO = NOW - timedelta(days=365)
TICK = timedelta(microseconds=1)


@given(world=worlds(), edges=st.lists(st.sampled_from([-TICK, timedelta(0), TICK]), max_size=5))
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_activity_equals_the_definition(
    engine: sa.Engine, world: World, edges: list[timedelta]
) -> None:
    for solve, step in zip(world.submissions, edges, strict=False):
        solve["date"] = YEAR_AGO + step
    gone = Activity(user_id=123_456)
    wanted = [Activity(user["id"]) for user in world.users] + [gone]
    with engine.connect() as connection:
        insert(connection, world)
        found = activity.calculator.compute(connection, wanted, NOW)
        every = connection.scalars(activity.calculator.every).all()
        connection.rollback()
    assert found == {
        Activity(user["id"]): {
            f"stats:activity:{user['id']}": naive_activity(world, user, NOW),
        }
        for user in world.users
    }
    solved = [
        solve["user_id"]
        for solve in world.submissions
        if solve["type"] == "correct" and solve["user_id"] is not None
    ]
    assert sorted(every) == sorted(set(solved))
    counts = [solved.count(user_id) for user_id in every]
    assert counts == sorted(counts, reverse=True)
