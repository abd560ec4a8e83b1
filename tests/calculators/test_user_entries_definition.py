"""Entries of live boards against the definition in plain Python, over random small databases.

Those of one user, looked up by index, and those of a whole dojo, from one pass.
"""

from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings

from statsd.calculators import crews, dojo_boards, dojo_stats, scoreboard, user_entries
from statsd.calculators.dojo_boards import Boards
from statsd.calculators.dojo_stats import Totals
from statsd.calculators.user_entries import Entries, UserEntries
from statsd.definitions import RECENT_SOLVES, WINDOWS
from statsd.keys import DOJO
from tests.oracles import naive
from tests.oracles.naive import World
from tests.oracles.naive_boards import scoreboards
from tests.oracles.worlds import NOW, insert, worlds

ROWS = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def built(connection: sa.Connection, dojo_ids: list[int]) -> dict[int, Boards]:
    wanted = [scoreboard.Scoreboard(dojo_id) for dojo_id in dojo_ids]
    parameters = user_entries.parameters(NOW) | dict(scoreboard.parameters(wanted, NOW))
    found = [
        connection.execute(statement, parameters).all()
        for statement in (
            *scoreboard.calculator.statements,
            dojo_boards.ACTIVE,
            crews.CHALLENGES,
        )
    ]
    return {
        dojo_id: dojo_boards.boards_of(
            *[[row for row in rows if row.dojo_id == dojo_id] for rows in found]
        )
        for dojo_id in dojo_ids
    }


def looked_up(connection: sa.Connection, wanted: list[UserEntries]) -> dict[UserEntries, Entries]:
    parameters = user_entries.parameters(NOW) | user_entries.pairs(wanted)
    return {
        UserEntries(row.dojo_id, row.user_id): user_entries.entries(row)
        for row in connection.execute(user_entries.USER_ENTRIES, parameters)
    }


def board(scores: dict[int, int]) -> list[tuple[int, int]]:
    """The users on a board in the order of ranks, with their solves."""
    order = sorted(scores, key=scores.__getitem__, reverse=True)
    return [(user_id, user_entries.solves_in(scores[user_id])) for user_id in order]


@given(world=worlds())
@ROWS
def test_user_entries_and_whole_boards_equal_the_definition(
    engine: sa.Engine, world: World
) -> None:
    pairs = [
        UserEntries(dojo["dojo_id"], user["id"])
        for dojo in world.dojos
        for user in [*world.users, {"id": 99}]
    ]
    with engine.connect() as connection:
        insert(connection, world)
        of_dojos = built(connection, [dojo["dojo_id"] for dojo in world.dojos])
        of_users = looked_up(connection, pairs)
        connection.rollback()
    assert set(of_users) == set(pairs)
    for dojo in world.dojos:
        own = of_dojos[dojo["dojo_id"]]
        _check_boards(own, scoreboards(world, dojo, NOW), dojo["dojo_id"])
        _check_totals(own, naive.dojo_stats(world, dojo, NOW))
        users = {each.user_id: of_users[each] for each in pairs if each.dojo_id == dojo["dojo_id"]}
        _check_users(own, users)


def _check_boards(own: Boards, wanted: dict[str, Any], dojo_id: int) -> None:
    found = {}
    for (scope, days), scores in own.scores.items():
        of = f"dojo:{dojo_id}" if scope == DOJO else f"module:{dojo_id}:{scope}"
        found[f"stats:scoreboard:{of}:{days}"] = board(scores)
    assert found == {
        key: [(entry["user_id"], entry["solves"]) for entry in entries]
        for key, entries in wanted.items()
    }
    people = {
        entry["user_id"]: (entry["name"], entry["email"])
        for entry in wanted[f"stats:scoreboard:dojo:{dojo_id}:0"]
    }
    assert {
        user: user_entries.person_in(user_entries.text_of(record))
        for user, record in own.records.items()
    } == people


def _check_totals(own: Boards, wanted: naive.DojoStats) -> None:
    users = len(own.scores[DOJO, 0])
    newest = [
        solved for record in own.records.values() for solved in user_entries.newest_in(record)
    ]
    newest.sort(key=lambda solved: solved.order, reverse=True)
    dojo = SimpleNamespace(
        dojo_id=1,
        id="d",
        official=False,
        challenges=wanted.value["challenges"],
        visible_challenges=wanted.value["visible_challenges"],
    )
    totals = Totals(own.solves, users, own.chart)
    [value] = dojo_stats.value(dojo, totals, newest[:RECENT_SOLVES]).values()
    naive.check_dojo_stats(value, wanted)


def _check_users(own: Boards, users: dict[int, Entries]) -> None:
    scores: dict[tuple[str, int], dict[int, int]] = {key: {} for key in own.scores}
    for user_id, entries in users.items():
        for scope, numbers in entries.scores.items():
            for days, number in zip(WINDOWS, numbers, strict=True):
                if number:
                    scores[scope, days][user_id] = number
    assert scores == own.scores
    assert {user: each.record for user, each in users.items() if each.record} == own.records
    assert {user: each.crew for user, each in users.items() if each.crew} == own.crews
    moments = {
        user: user_entries.newest_in(record)[0].date
        for user, record in own.records.items()
        if user_entries.newest_in(record)
    }
    assert moments == own.newest
