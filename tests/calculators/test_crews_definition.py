"""Crews against the definition in plain Python, over random small databases."""

from datetime import datetime

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings, strategies as st

from statsd.calculators import crews
from statsd.calculators.crews import Crews
from tests.oracles.naive import World
from tests.oracles.naive_crews import crews as naive_crews
from tests.oracles.worlds import NOW, insert, worlds

NAMES = ["a [x]", "b [X ]", "c [\uff38]", "[y]", "d [y\ufe0f] ", "e [x] f", "g [\u200b]", "[[z]"]


@given(world=worlds(), names=st.lists(st.sampled_from([*NAMES, None]), min_size=5, max_size=5))
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_crews_equal_the_definition(
    engine: sa.Engine, world: World, names: list[str | None]
) -> None:
    for user, name in zip(world.users, names, strict=True):
        user["name"] = name
    found = computed(engine, world, NOW)
    assert found == {Crews(dojo["dojo_id"]): naive_crews(world, dojo, NOW) for dojo in world.dojos}


def computed(engine: sa.Engine, world: World, now: datetime) -> object:
    gone = Crews(dojo_id=123_456)
    wanted = [Crews(dojo["dojo_id"]) for dojo in world.dojos] + [gone]
    with engine.connect() as connection:
        insert(connection, world)
        found = crews.calculator.compute(connection, wanted, now)
        connection.rollback()
    return found
