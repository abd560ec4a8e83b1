"""Scores against the definition in plain Python, over random small databases."""

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings

from statsd.calculators import scores
from statsd.calculators.scores import Scores
from tests.oracles.naive import World, is_open_to_all
from tests.oracles.naive_boards import scores as naive_scores
from tests.oracles.worlds import NOW, insert, worlds


@given(world=worlds())
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_scores_equal_the_definition(engine: sa.Engine, world: World) -> None:
    gone = Scores(dojo_id=123_456)
    wanted = [Scores(dojo["dojo_id"]) for dojo in world.dojos] + [gone]
    with engine.connect() as connection:
        insert(connection, world)
        computed = scores.calculator.compute(connection, wanted, NOW)
        every = set(connection.scalars(scores.calculator.every))
        connection.rollback()
    assert computed == {
        Scores(dojo["dojo_id"]): naive_scores(world, dojo)
        for dojo in world.dojos
        if is_open_to_all(dojo)
    }
    assert every == {dojo["dojo_id"] for dojo in world.dojos}
