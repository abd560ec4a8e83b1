"""Belts and emojis against the definition in plain Python, over random small databases."""

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings

from statsd.calculators import belts, emojis
from statsd.calculators.belts import Belts
from statsd.calculators.emojis import Emojis
from tests.oracles.award_worlds import award_worlds
from tests.oracles.naive import World
from tests.oracles.naive_awards import (
    belts as naive_belts,
    emojis as naive_emojis,
    viewable as naive_viewable,
)
from tests.oracles.worlds import NOW, insert


@given(world=award_worlds())
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_awards_equal_the_definition(engine: sa.Engine, world: World) -> None:
    with engine.connect() as connection:
        insert(connection, world)
        belts_found = belts.calculator.compute(connection, [Belts()], NOW)
        emojis_found = emojis.calculator.compute(connection, [Emojis()], NOW)
        connection.rollback()
    assert belts_found == {Belts(): {"stats:belts": naive_belts(world)}}
    assert emojis_found == {Emojis(): {"stats:emojis": naive_emojis(world)}}
    for viewable in (set[int](), {-7}, {3, 10}):
        seen = emojis.viewable_in(emojis_found[Emojis()]["stats:emojis"], viewable)
        assert seen == naive_viewable(world, viewable)


def test_where_nobody_was_awarded_anything_all_colours_are_there(engine: sa.Engine) -> None:
    colors = ["orange", "yellow", "green", "purple", "blue", "brown", "red", "black"]
    with engine.connect() as connection:
        found = belts.calculator.compute(connection, [Belts()], NOW)
    [value] = found[Belts()].values()
    assert value == belts.empty()
    assert list(value["dates"]) == list(value["ranks"]) == colors
