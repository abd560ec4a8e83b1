"""The entries of users, and what follows from them, against the definition in plain Python.

Random small databases have challenges that are optional, or in one dojo twice, or in many dojos,
hidden users, admins, and solves without a date.

The first property compares the three ways to read the relation, and NumPy's derivations from it.
The second one compares the scripts', which move a state by differences.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from itertools import product
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import redis
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings, strategies as st
from redis.asyncio import Redis

from statsd import keys, schema
from statsd.boards import columns
from statsd.boards.columns import Entries
from statsd.boards.records import packed_by_user
from statsd.boards.shape import ITEM, DojoShape, ranking, scores_in_order
from statsd.calculators import dojo_arrays, dojo_stats, user_entries
from statsd.calculators.counted import DOJO_IDS
from statsd.calculators.dojo_arrays import Boards
from statsd.calculators.dojo_stats import Newest, Totals
from statsd.calculators.user_entries import COUNTED, UserEntries
from statsd.definitions import CHART_DAYS, RECENT_SOLVES, WINDOWS
from statsd.job import TICK, microseconds
from statsd.jobs.pending import PendingJob
from statsd.servers.database import Database
from statsd.servers.snapshot import Snapshot, Statement
from tests.oracles import naive
from tests.oracles.naive import Row, World, counted_solves, in_window, is_open_to_all, modules_of
from tests.oracles.naive_boards import challenge_solves, scoreboards, scores
from tests.oracles.naive_crews import crews
from tests.oracles.stored_boards import check, prefix_of, world_of
from tests.oracles.worlds import NOW, insert, worlds
from tests.support.daemon_parts import Parts

ROWS = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
STATES = settings(ROWS, max_examples=50)
NOBODY = {"id": 99}
ODD = 101  # bytes of a chunk: no column ends with it
DAY = timedelta(days=1)
AHEAD = 36_500 * DAY  # a daemon's clock cannot be set back, so the worlds' dates are in its future
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive UTC


class CopyingSnapshot:
    """Copies over a connection with uncommitted rows, in chunks that end anywhere."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    async def copy(
        self,
        statement: Statement,
        parameters: Mapping[str, Any],
        take: Callable[[bytes], Awaitable[None]],
    ) -> None:
        compiled = statement.compile(dialect=self._connection.dialect)
        raw: list[bytes] = []
        driver: Any = self._connection.connection.driver_connection
        with driver.cursor() as cursor:
            query = cursor.mogrify(str(compiled), compiled.construct_params(parameters)).decode()
            sink = SimpleNamespace(write=lambda chunk: raw.append(bytes(chunk)))
            cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT binary)", sink)
        copied = b"".join(raw)
        for first in range(0, len(copied), ODD):
            await take(copied[first : first + ODD])


def read(connection: sa.Connection, statement: Statement, **parameters: Any) -> Entries:
    snapshot = cast("Snapshot", CopyingSnapshot(connection))
    return asyncio.run(columns.read(snapshot, statement, parameters))


@given(world=worlds())
@ROWS
def test_whole_dojos_and_their_users_equal_the_definition(engine: sa.Engine, world: World) -> None:
    ids = [dojo["dojo_id"] for dojo in world.dojos]
    users = [user["id"] for user in [*world.users, NOBODY]]
    pairs = [UserEntries(dojo_id, user) for dojo_id in ids for user in users]
    with engine.connect() as connection:
        insert(connection, world)
        of_dojos = read(connection, user_entries.ENTRIES_OF_DOJOS, **{DOJO_IDS: ids})
        of_ranges = {
            (dojo_id, first, last): read(
                connection, user_entries.ENTRIES_IN_RANGE, dojo_id=dojo_id, first=first, last=last
            )
            for dojo_id in ids
            for first, last in ((0, 2), (3, 99))
        }
        rows = connection.execute(
            user_entries.ENTRIES_OF_PAIRS, user_entries.pairs(pairs, {})
        ).all()
        computed = dojo_arrays.calculator.compute(connection, [*map(Boards, ids)], NOW)
        connection.rollback()
    looked_up = {
        (row.dojo_id, row.user_id): user_entries.grouped(user_entries.entries_in(row))
        for row in rows
    }
    assert looked_up.keys() == {(each.dojo_id, each.user_id) for each in pairs}
    for dojo in world.dojos:
        entries = of_dojos.of_dojo(dojo["dojo_id"])
        whole = packed_by_user(entries)
        slices: dict[int, bytes] = {}
        for (dojo_id, _, _), found in of_ranges.items():
            slices |= packed_by_user(found) if dojo_id == dojo["dojo_id"] else {}
        assert slices == whole
        assert whole == {
            user: b"".join(user_entries.ENTRY.pack(*each) for each in looked_up[dojo_id, user])
            for dojo_id, user in looked_up
            if dojo_id == dojo["dojo_id"] and looked_up[dojo_id, user]
        }
        shape = DojoShape(entries, modules_of(world, dojo), microseconds(NOW))
        arrays = arrays_of(shape, dojo)
        assert arrays == naive_arrays(world, dojo)
        full = computed[Boards(dojo["dojo_id"])]
        assert full.keys() == arrays.keys() | crews(world, dojo, NOW).keys()
        assert {key: without_people(full[key]) for key in arrays} == arrays
        _check_totals(world, dojo, shape)
        _check_moments(world, dojo, shape)


def without_people(value: Any) -> Any:
    """A board as the ids of its users and their solves; other values as they are."""
    if isinstance(value, list):
        return [(entry["user_id"], entry["solves"]) for entry in value]
    return value


def naive_arrays(world: World, dojo: Row) -> dict[str, Any]:
    boards = {key: without_people(each) for key, each in scoreboards(world, dojo, NOW).items()}
    return boards | challenge_solves(world, dojo) | scores(world, dojo)


def arrays_of(shape: DojoShape, dojo: Row) -> dict[str, Any]:
    dojo_id, items = dojo["dojo_id"], shape.items()
    found: dict[str, Any] = {}
    for scope, days in product(items, WINDOWS):
        each = ranking(scope, days, items[scope])
        key = keys.scoreboard(dojo_id, keys.module_index_of(scope), days)
        found[key] = [*zip(each.users.tolist(), each.solves.tolist(), strict=True)]
    for module, solves in shape.challenges().items():
        key = keys.challenge_solves(dojo_id, module)
        found[key] = {str(challenge): count for challenge, count in solves.items()}
    if not is_open_to_all(dojo):
        assert not any(own["count"].any() for own in items.values())
        return found
    for scope, of_scope in items.items():
        own, key = scores_in_order(of_scope), keys.scores(dojo_id, keys.module_index_of(scope))
        users, counts = own.users.tolist(), own.counts.tolist()
        found[key] = {"ranks": users, "solves": dict(zip(map(str, users), counts, strict=True))}
    return found


def _check_totals(world: World, dojo: Row, shape: DojoShape) -> None:
    wanted = naive.dojo_stats(world, dojo, NOW)
    days, today = shape.days(), (NOW - EPOCH).days
    chart = [(days.get(f"s{today - n}", 0), days.get(f"u{today - n}", 0)) for n in CHART_DAYS]
    of_dojo = ranking(keys.DOJO, 0, shape.items()[keys.DOJO])
    names = {
        (row["module_index"], row["challenge_index"]): row["name"] or row["id"]
        for row in world.dojo_challenges
        if row["dojo_id"] == dojo["dojo_id"]
    }
    entries = [
        user_entries.UserEntry(*each)
        for each in user_entries.ENTRY.iter_unpack(shape.entries.packed())
    ]
    newest = [
        Newest(EPOCH + each.date * TICK, names[each.module_index, each.challenge_index])
        for each in entries
        if each.flags & COUNTED and each.date >= microseconds(NOW - 7 * DAY)
    ]
    newest.sort(key=lambda each: each.date, reverse=True)
    row = SimpleNamespace(
        dojo_id=1,
        id="d",
        official=False,
        challenges=wanted.value["challenges"],
        visible_challenges=wanted.value["visible_challenges"],
    )
    totals = Totals(shape.solves, len(of_dojo.users), chart)
    [value] = dojo_stats.value(row, totals, newest[:RECENT_SOLVES]).values()
    naive.check_dojo_stats(value, wanted)


def _check_moments(world: World, dojo: Row, shape: DojoShape) -> None:
    """When a user's newest recent solve was, and when a first solve leaves a window."""
    counted = counted_solves(world, dojo)
    newest: dict[int, int] = {}
    leaving: dict[int, int] = {}
    for days in (7, 30):
        for solve in in_window(counted, days, NOW):
            assert solve.date is not None
            user, date = solve.user_id, microseconds(solve.date)
            if days == 7:
                newest[user] = max(newest.get(user, date), date)
            leaves = microseconds(solve.date + days * DAY + TICK)
            leaving[user] = min(leaving.get(user, leaves), leaves)
    assert _by_user(shape.newest()) == newest
    assert _by_user(shape.leaving()) == leaving


def _by_user(flat: list[int]) -> dict[int, int]:
    return dict(zip(flat[1::2], flat[::2], strict=True))


# --- the scripts


@st.composite
def histories(draw: st.DrawFn) -> tuple[World, list[int], World]:
    """Draw a world, the ids of the solves that come first, and another world for the same dojos.

    In the second world users, memberships and dates differ; its dojos have the same structure.
    """
    world = draw(worlds())
    tags = st.sampled_from(["a", "a [x]", "b [X]", "c [y]"])
    for number, dojo in enumerate(world.dojos):
        dojo["id"] = f"d{number}"  # two official dojos of one name would share a key
    for user in world.users:
        user["name"] = draw(tags)
    first = [each["id"] for each in world.submissions if draw(st.booleans())]
    users = [
        user | {"name": draw(tags), "hidden": draw(st.sampled_from([False, False, True]))}
        for user in world.users
    ]
    memberships = [each | {"type": draw(st.sampled_from(["member", "admin"]))} for each in
                   world.dojo_users if draw(st.booleans())]  # fmt: skip
    later = World(
        users=users,
        dojo_users=memberships,
        submissions=[each for each in world.submissions if draw(st.integers(0, 3))],
    )
    return world, first, later


def shifted(rows: list[Row]) -> list[Row]:
    """Rows whose dates lie in the daemon's future."""
    return [
        {name: each + AHEAD if isinstance(each, datetime) else each for name, each in row.items()}
        for row in rows
    ]


def set_rows(engine: sa.Engine, world: World) -> None:
    """Replace the rows of the tables that a world has."""
    with engine.begin() as connection:
        for table in reversed(schema.metadata.sorted_tables):
            if getattr(world, table.name, None) is not None:
                connection.execute(sa.delete(table))
        insert(connection, world)


@given(history=histories())
@STATES
async def test_states_moved_by_differences_equal_the_definition(
    async_cache: Redis,
    cache: "redis.Redis",
    snapshots: Database,
    engine: sa.Engine,
    history: tuple[World, list[int], World],
) -> None:
    """Solves come and go while the states of dojos, once built without any, are never rebuilt."""
    world, first, later = history
    cache.flushall()
    at_first = shifted([each for each in world.submissions if each["id"] in first])
    shift = {
        name: shifted(getattr(world, name)) for name in ("dojo_challenge_visibilities", "users")
    }
    begin = World(**{**vars(world), **shift, "submissions": []})
    set_rows(engine, begin)
    parts = Parts(async_cache, snapshots)
    await parts.start()
    await parts.move(NOW + AHEAD)
    pairs = [
        UserEntries(dojo["dojo_id"], user["id"])
        for dojo in world.dojos
        for user in [*world.users, NOBODY]
    ]

    async def move_all() -> None:
        await parts.queue.enqueue([PendingJob(pair) for pair in pairs])
        answered = await parts.answer()
        assert not [name for name in answered if name.startswith(f"{Boards.kind}:")]
        check(cache, world_of(engine), await parts.now())

    with engine.begin() as connection:
        insert(connection, World(submissions=at_first))
    await move_all()
    with engine.begin() as connection:
        for table in (schema.submissions, schema.dojo_users):
            connection.execute(sa.delete(table))
        for user in later.users:
            own = sa.update(schema.users).where(schema.users.c.id == user["id"])
            connection.execute(own.values(name=user["name"], hidden=user["hidden"]))
        moved = World(dojo_users=later.dojo_users, submissions=shifted(later.submissions))
        insert(connection, moved)
    await move_all()
    with engine.begin() as connection:
        connection.execute(sa.delete(schema.submissions))
    await move_all()
    for dojo in world.dojos:
        _check_nothing_is_left(cache, prefix_of(cache, dojo["dojo_id"]))


def _check_nothing_is_left(cache: "redis.Redis", prefix: str) -> None:
    """All that moved by differences is back where it began."""
    for key in cache.scan_iter(f"{prefix}:*"):
        if key.endswith((b":challenges", b":days")):
            numbers: Any = cache.hgetall(key)
            numbers.pop(b"-")
            assert not any(int(each) for each in numbers.values())
        elif key.endswith((b":newest", b":until", b":0", b":7", b":30")):
            assert cache.zrange(key, 0, -1) == [b"-"]
        elif key.endswith(b":items"):
            raw: Any = cache.get(key)
            items = np.frombuffer(raw, ITEM)
            assert not items["scores"].any()
            assert not items["count"].any()
    assert cache.hkeys(f"{prefix}:tagged") == [b"-"]
    assert cache.hget(prefix, "solves") == b"0"
