"""Small random databases that exercise every rule of a definition."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from hypothesis import strategies as st

from statsd import schema
from tests.oracles.naive import Row, World

NOW = datetime(2026, 3, 2, 15, 30, 45, 123456)  # noqa: DTZ001 - naive UTC, as the tables have it
MIDNIGHT = datetime(2026, 3, 2)  # noqa: DTZ001 - as above
TICK = timedelta(microseconds=1)

# Dates lie at, just before and just after every boundary of a definition: windows, midnights.
_EDGES = [NOW] + [NOW - timedelta(days=days) for days in (7, 30)]
_EDGES += [MIDNIGHT - timedelta(days=days) for days in (0, 1, 6, 7, 29, 30, 59, 60)]
MOMENTS = [edge + step for edge in _EDGES for step in (-TICK, timedelta(0), TICK)]
MOMENTS += [NOW - timedelta(days=400), NOW + timedelta(hours=1)]

moments = st.sampled_from(MOMENTS)
recent = st.sampled_from([moment for moment in MOMENTS if moment >= _EDGES[1]])
names = st.sampled_from(["", "level <1>", "näme\u202e", "[tag]"]) | st.none()
kinds = st.sampled_from(
    [{"type": "public"}] * 3
    + [None, {}, {"type": "course"}, {"type": "hidden"}, ["type"], "public"]
)
Dates = st.SearchStrategy[datetime]
SOLVERS, CHALLENGES, DOJOS = 5, 4, 3


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw rows of all tables that a counted solve depends on."""
    world = World(
        users=[
            {
                "id": i,
                "name": draw(names),
                "email": draw(st.sampled_from([f"u{i}@example.com", None])),
                "hidden": draw(st.sampled_from([False, False, False, False, True, None])),
            }
            for i in range(1, SOLVERS + 1)
        ],
        challenges=[{"id": i} for i in range(1, CHALLENGES + 1)],
    )
    # One world has few different dates, so that solves share dates with one another, and with the
    # start and stop of visibilities.
    dates = st.sampled_from(draw(st.lists(moments, min_size=2, max_size=8)))
    for dojo_id in draw(st.permutations([-7, 3, 2_000_000_000]))[: draw(st.integers(1, DOJOS))]:
        _add_dojo(draw, world, dojo_id, dates)
    _add_submissions(draw, world, dates)
    return world


def _add_dojo(draw: st.DrawFn, world: World, dojo_id: int, dates: Dates) -> None:
    official = draw(st.sampled_from([True, False, None]))
    world.dojos.append({"dojo_id": dojo_id, "id": "d", "official": official, "data": draw(kinds)})
    for module_index in range(2):
        if draw(st.integers(0, 4)):
            world.dojo_modules.append({"dojo_id": dojo_id, "module_index": module_index, "id": "m"})
        for challenge_index in range(draw(st.sampled_from([0, 2, 3, 4, 4]))):
            _add_challenge(draw, world, (dojo_id, module_index, challenge_index), dates)
    for user in world.users:
        if draw(st.booleans()):
            kind = draw(st.sampled_from(["member", "student", "admin", None]))
            world.dojo_users.append({"dojo_id": dojo_id, "user_id": user["id"], "type": kind})


def _add_challenge(draw: st.DrawFn, world: World, ids: tuple[int, int, int], dates: Dates) -> None:
    key = dict(zip(("dojo_id", "module_index", "challenge_index"), ids, strict=True))
    world.dojo_challenges.append(
        key
        | {
            "challenge_id": draw(st.integers(1, CHALLENGES)),
            "id": f"c{ids[2]}",
            "name": draw(names),
            "required": draw(st.sampled_from([True] * 4 + [False, None])),
        }
    )
    if draw(st.integers(0, 2)) == 0:
        bounds = {"start": draw(st.none() | dates), "stop": draw(st.none() | dates)}
        world.dojo_challenge_visibilities.append(key | bounds)


def _add_submissions(draw: st.DrawFn, world: World, dates: Dates) -> None:
    # Many solves are recent, more than fit into `recent_solves`. A few have no date, which the
    # column allows.
    solve_dates = st.one_of(dates, dates, dates, recent, recent, st.none() | dates)
    # Most solvers have several solves, in any order. So counts are often equal, and ids or dates
    # decide the rank.
    pairs = [(i, j) for i in range(1, CHALLENGES + 1) for j in range(1, SOLVERS + 1)]
    pairs = draw(st.permutations(pairs))
    for i in range(draw(st.integers(0, 40))):
        kind = draw(st.sampled_from(["correct"] * 6 + ["incorrect", "no user"]))
        challenge_id: int = draw(st.integers(1, CHALLENGES))
        user_id: int | None = None
        if kind == "incorrect":
            user_id = draw(st.integers(1, SOLVERS))
        elif kind == "correct":
            if not pairs:
                continue
            challenge_id, user_id = pairs.pop()
        world.submissions.append(
            {
                "id": i + 1,
                "challenge_id": challenge_id,
                "user_id": user_id,
                "date": draw(solve_dates),
                "type": "incorrect" if kind == "incorrect" else "correct",
            }
        )


def insert(connection: sa.Connection, world: World) -> None:
    """Insert a world's rows into empty tables."""
    for table in schema.metadata.sorted_tables:
        rows: list[Row] = getattr(world, table.name, [])
        if rows:
            connection.execute(sa.insert(table), [_with_all(table, row) for row in rows])


def _with_all(table: sa.Table, row: Row) -> dict[str, Any]:
    # One statement for all rows needs the same columns in each. A JSON null is no SQL null.
    full = {column.name: row.get(column.name) for column in table.columns}
    if "data" in full and full["data"] is None:
        full["data"] = sa.null()
    return full
