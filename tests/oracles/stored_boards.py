"""The live boards in Redis, compared with boards computed from the rows of the database."""

import struct
from datetime import UTC, datetime
from typing import Any

import orjson
import redis
import sqlalchemy as sa

from statsd import keys, schema
from statsd.calculators import user_entries
from statsd.definitions import CHART_DAYS, WINDOWS
from tests.oracles import naive
from tests.oracles.naive import Row, World
from tests.oracles.naive_boards import challenge_solves, scoreboards, scores
from tests.oracles.naive_crews import crews

SENTINEL = "-"


def world_of(engine: sa.Engine) -> World:
    """Read all rows of a database."""
    with engine.connect() as connection:
        return World(
            **{
                name: [dict(each) for each in connection.execute(sa.select(table)).mappings().all()]
                for name, table in schema.metadata.tables.items()
                if name in World.__dataclass_fields__
            }
        )


def live_boards(cache: "redis.Redis", world: World, dojo: Row) -> dict[str, Any]:
    """Return the live boards of a dojo as arrays, by the keys of the exports."""
    return {
        keys.scoreboard(dojo["dojo_id"], index, days): live_board(
            cache, dojo["dojo_id"], index, days
        )
        for index in (None, *naive.modules_of(world, dojo))
        for days in WINDOWS
    }


def live_board(
    cache: "redis.Redis", dojo_id: int, module_index: int | None, days: int
) -> list[Row] | None:
    """Return a live board as an array; None if it is missing or incomplete."""
    prefix = prefix_of(cache, dojo_id)
    scope = keys.scope(module_index)
    entries: Any = cache.zrevrange(f"{prefix}:{scope}:{days}", 0, -1, withscores=True)
    if not entries or entries.pop() != (SENTINEL.encode(), -1):
        return None
    users = [user for user, _ in entries]
    stored: Any = cache.get(f"{prefix}:{scope}:items")
    at = 1 + WINDOWS.index(days)
    of_items = [(each[at], each[0]) for each in struct.iter_unpack("<IqqqIq", stored) if each[at]]
    assert sorted(of_items) == sorted((int(number), int(user)) for user, number in entries)
    names: Any = cache.hmget(keys.NAMES, users) if users else []
    if None in names:
        return None
    people = [user_entries.person_in(name.partition(b"|")[2]) for name in names]
    return [
        {
            "rank": rank,
            "solves": user_entries.solves_in(int(number)),
            "user_id": int(user),
            "name": person.name,
            "email": person.email,
        }
        for rank, ((user, number), person) in enumerate(zip(entries, people, strict=True), 1)
    ]


def prefix_of(cache: "redis.Redis", dojo_id: int) -> str:
    """Return the prefix of the keys of a dojo's state."""
    generation: Any = cache.get(keys.boards(dojo_id))
    return keys.generation(dojo_id, int(generation or 0))


def check(cache: "redis.Redis", world: World, now: datetime | None = None) -> None:
    """Assert that boards, exports and statistics of all dojos agree with the definition."""
    now = now or datetime.now(UTC).replace(tzinfo=None)
    for dojo in world.dojos:
        check_live(cache, world, dojo, now)
        expected = {
            **scoreboards(world, dojo, now),
            **challenge_solves(world, dojo),
            **scores(world, dojo),
        }
        for key, value in expected.items():
            assert value_of(cache, key) == value


def check_live(cache: "redis.Redis", world: World, dojo: Row, now: datetime | None = None) -> None:
    """Assert that a dojo's boards agree with the definition, and so statistics and crews."""
    now = now or datetime.now(UTC).replace(tzinfo=None)
    found, expected = live_boards(cache, world, dojo), scoreboards(world, dojo, now)
    assert found.keys() == expected.keys()
    for key, board in expected.items():
        assert found[key] == board, f"{key}: {found[key]} instead of {board}"
    reference = keys.reference_id(dojo["dojo_id"], dojo["id"], official=dojo["official"] is True)
    wanted = naive.dojo_stats(world, dojo, now)
    naive.check_dojo_stats(value_of(cache, keys.dojo_stats(reference)), wanted)
    for key, value in crews(world, dojo, now).items():
        assert value_of(cache, key) == value
    _check_totals(cache, world, dojo, now)


def _check_totals(cache: "redis.Redis", world: World, dojo: Row, now: datetime) -> None:
    """Assert that the totals are right: they move by differences, so none was lost or repeated."""
    wanted = naive.dojo_stats(world, dojo, now).value
    prefix = prefix_of(cache, dojo["dojo_id"])
    solves: Any = cache.hget(prefix, "solves")
    assert int(solves) == wanted["solves"]
    raw: Any = cache.hgetall(f"{prefix}:days")
    days = {name.decode(): int(value or 0) for name, value in raw.items()}
    today = (now - datetime(1970, 1, 1)).days  # noqa: DTZ001 - naive UTC
    for i, ago in enumerate(CHART_DAYS):
        assert days.get(f"s{today - ago}", 0) == wanted["chart_data"]["solves"][i]
        assert days.get(f"u{today - ago}", 0) == wanted["chart_data"]["users"][i]


def value_of(cache: "redis.Redis", key: str) -> Any:
    raw: Any = cache.get(key)
    return None if raw is None else orjson.loads(raw)
