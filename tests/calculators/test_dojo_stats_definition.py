"""The calculator against the definition in plain Python, over random small databases."""

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings

from statsd import keys
from statsd.calculators import dojo_stats
from statsd.calculators.dojo_stats import DojoStats
from tests.oracles.naive import World, check_dojo_stats, dojo_stats as naive_dojo_stats
from tests.oracles.worlds import NOW, insert, worlds


@given(world=worlds())
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_dojo_stats_equal_the_definition(engine: sa.Engine, world: World) -> None:
    gone = DojoStats(dojo_id=123_456)
    wanted = [DojoStats(dojo["dojo_id"]) for dojo in world.dojos] + [gone]
    with engine.connect() as connection:
        insert(connection, world)
        shaped = dojo_stats.calculator.compute(connection, wanted, NOW)
        connection.rollback()
    assert gone not in shaped
    for dojo in world.dojos:
        reference = keys.reference_id(dojo["dojo_id"], dojo["id"], official=bool(dojo["official"]))
        [(key, value)] = shaped[DojoStats(dojo["dojo_id"])].items()
        assert key == f"stats:dojo:{reference}"
        check_dojo_stats(value, naive_dojo_stats(world, dojo, NOW))
