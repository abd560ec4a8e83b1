"""Scoreboards against the definition in plain Python, over random small databases."""

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings

from statsd.calculators import scoreboard
from statsd.calculators.scoreboard import Scoreboard
from tests.oracles.naive import World
from tests.oracles.naive_boards import scoreboards
from tests.oracles.worlds import NOW, insert, worlds


@given(world=worlds())
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_scoreboards_equal_the_definition(engine: sa.Engine, world: World) -> None:
    gone = Scoreboard(dojo_id=123_456)
    wanted = [Scoreboard(dojo["dojo_id"]) for dojo in world.dojos] + [gone]
    with engine.connect() as connection:
        insert(connection, world)
        computed = scoreboard.calculator.compute(connection, wanted, NOW)
        every = set(connection.scalars(scoreboard.calculator.every))
        connection.rollback()
    assert computed == {
        Scoreboard(dojo["dojo_id"]): scoreboards(world, dojo, NOW) for dojo in world.dojos
    }
    assert every == {job.dojo_id for job in computed}
