"""The solves of challenges against the definition in plain Python, over random small databases."""

import sqlalchemy as sa
from hypothesis import HealthCheck, event, given, settings

from statsd.calculators import challenge_solves
from statsd.calculators.challenge_solves import ChallengeSolves
from tests.oracles.naive import World
from tests.oracles.naive_boards import challenge_solves as naive_challenge_solves
from tests.oracles.worlds import NOW, insert, worlds


@given(world=worlds())
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_challenge_solves_equal_the_definition(engine: sa.Engine, world: World) -> None:
    gone = ChallengeSolves(dojo_id=123_456)
    wanted = [ChallengeSolves(dojo["dojo_id"]) for dojo in world.dojos] + [gone]
    with engine.connect() as connection:
        insert(connection, world)
        computed = challenge_solves.calculator.compute(connection, wanted, NOW)
        every = set(connection.scalars(challenge_solves.calculator.every))
        connection.rollback()
    assert computed == {
        ChallengeSolves(dojo["dojo_id"]): naive_challenge_solves(world, dojo)
        for dojo in world.dojos
    }
    assert every == {job.dojo_id for job in computed}
    required = {row["challenge_id"] for row in world.dojo_challenges if row["required"]}
    solved = {int(each) for keys in computed.values() for value in keys.values() for each in value}
    event(f"solves of optional challenges: {bool(solved - required)}")
