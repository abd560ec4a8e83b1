"""Small random databases in which every clause of a definition makes a difference."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from hypothesis import strategies as st

from statsd import schema
from tests.naive import Row, World

NOW = datetime(2026, 3, 2, 15, 30, 45, 123456)  # noqa: DTZ001 - naive UTC, as the tables have it
MIDNIGHT = datetime(2026, 3, 2)  # noqa: DTZ001 - as above
TICK = timedelta(microseconds=1)

# Dates meet at every boundary a definition has: windows, midnights, and one another (which is
# how a solve comes to lie on the start or stop of a visibility).
_EDGES = [NOW] + [NOW - timedelta(days=days) for days in (7, 30)]
_EDGES += [MIDNIGHT - timedelta(days=days) for days in (0, 1, 6, 7, 29, 30, 59, 60)]
MOMENTS = [edge + step for edge in _EDGES for step in (-TICK, timedelta(0), TICK)]
MOMENTS += [NOW - timedelta(days=400), NOW + timedelta(hours=1)]

moments = st.sampled_from(MOMENTS)
# Half of all solves are recent, so that more than fit into a list of the newest are.
solve_dates = moments | st.sampled_from([moment for moment in MOMENTS if moment >= _EDGES[1]])
names = st.sampled_from(["", "level <1>", "näme\u202e", "[tag]"]) | st.none()
kinds = st.sampled_from(
    [None, {}, {"type": "public"}, {"type": "course"}, {"type": "hidden"}, ["type"], "public"]
)
SOLVERS, CHALLENGES, DOJOS = 5, 4, 3


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw the rows of all tables that a counted solve depends on."""
    world = World(
        users=[
            {"id": i, "name": f"u{i}", "hidden": draw(st.sampled_from([False, False, True, None]))}
            for i in range(1, SOLVERS + 1)
        ],
        challenges=[{"id": i} for i in range(1, CHALLENGES + 1)],
    )
    for dojo_id in draw(st.permutations([-7, 3, 2_000_000_000]))[: draw(st.integers(1, DOJOS))]:
        _add_dojo(draw, world, dojo_id)
    _add_submissions(draw, world)
    return world


def _add_dojo(draw: st.DrawFn, world: World, dojo_id: int) -> None:
    official = draw(st.sampled_from([True, False, None]))
    world.dojos.append({"dojo_id": dojo_id, "id": "d", "official": official, "data": draw(kinds)})
    for module_index in range(2):
        if draw(st.integers(0, 4)):
            world.dojo_modules.append({"dojo_id": dojo_id, "module_index": module_index, "id": "m"})
        for challenge_index in range(draw(st.integers(0, 4))):
            _add_challenge(draw, world, (dojo_id, module_index, challenge_index))
    for user in world.users:
        if draw(st.booleans()):
            kind = draw(st.sampled_from(["member", "student", "admin", None]))
            world.dojo_users.append({"dojo_id": dojo_id, "user_id": user["id"], "type": kind})


def _add_challenge(draw: st.DrawFn, world: World, place: tuple[int, int, int]) -> None:
    key = dict(zip(("dojo_id", "module_index", "challenge_index"), place, strict=True))
    world.dojo_challenges.append(
        key
        | {
            "challenge_id": draw(st.integers(1, CHALLENGES)),
            "id": f"c{place[2]}",
            "name": draw(names),
            "required": draw(st.sampled_from([True, True, True, False, None])),
        }
    )
    if draw(st.booleans()):
        bounds = {"start": draw(st.none() | moments), "stop": draw(st.none() | moments)}
        world.dojo_challenge_visibilities.append(key | bounds)


def _add_submissions(draw: st.DrawFn, world: World) -> None:
    solved = set()
    for i in range(draw(st.integers(0, 40))):
        user_id = draw(st.none() | st.integers(1, SOLVERS))
        challenge_id = draw(st.integers(1, CHALLENGES))
        kind = draw(st.sampled_from(["correct", "correct", "correct", "incorrect"]))
        if kind == "correct" and user_id is not None:
            if (challenge_id, user_id) in solved:
                continue
            solved.add((challenge_id, user_id))
        world.submissions.append(
            {
                "id": i + 1,
                "challenge_id": challenge_id,
                "user_id": user_id,
                "date": draw(solve_dates),
                "type": kind,
            }
        )


def insert(connection: sa.Connection, world: World) -> None:
    """Put a world's rows into the empty tables."""
    for table in schema.metadata.sorted_tables:
        rows: list[Row] = getattr(world, table.name, [])
        if rows:
            connection.execute(sa.insert(table), [_with_all(table, row) for row in rows])


def _with_all(table: sa.Table, row: Row) -> dict[str, Any]:
    # One statement for all rows needs the same columns in each; a JSON null is not SQL's.
    full = {column.name: row.get(column.name) for column in table.columns}
    if "data" in full and full["data"] is None:
        full["data"] = sa.null()
    return full
