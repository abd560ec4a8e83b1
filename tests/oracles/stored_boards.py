"""The live boards in Redis, compared with boards computed from the rows of the database."""

from datetime import UTC, datetime
from typing import Any

import orjson
import redis
import sqlalchemy as sa

from statsd import keys, schema
from statsd.calculators import user_entries
from statsd.definitions import WINDOWS
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
    prefix = keys.boards(dojo_id)
    scope = keys.scope(module_index)
    entries: Any = cache.zrevrange(f"{prefix}:{scope}:{days}", 0, -1, withscores=True)
    if not entries or entries.pop() != (SENTINEL.encode(), -1):
        return None
    users = [user for user, _ in entries]
    records: Any = cache.hmget(f"{prefix}:users", users) if users else []
    if None in records:
        return None
    return [
        {
            "rank": rank,
            "solves": user_entries.solves_in(int(number)),
            "user_id": int(user),
            "name": user_entries.person_in(user_entries.text_of(record))[0],
            "email": user_entries.person_in(user_entries.text_of(record))[1],
        }
        for rank, ((user, number), record) in enumerate(zip(entries, records, strict=True), 1)
    ]


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
    assert live_boards(cache, world, dojo) == scoreboards(world, dojo, now)
    reference = keys.reference_id(dojo["dojo_id"], dojo["id"], official=dojo["official"] is True)
    wanted = naive.dojo_stats(world, dojo, now)
    naive.check_dojo_stats(value_of(cache, keys.dojo_stats(reference)), wanted)
    for key, value in crews(world, dojo, now).items():
        assert value_of(cache, key) == value
    _check_totals(cache, world, dojo, now)


def _check_totals(cache: "redis.Redis", world: World, dojo: Row, now: datetime) -> None:
    """Assert that the totals are right: they move by differences, so none was lost or repeated."""
    wanted = naive.dojo_stats(world, dojo, now).value
    raw: Any = cache.hgetall(keys.boards(dojo["dojo_id"]))
    found = {name.decode(): value.decode() for name, value in raw.items()}
    assert int(found["solves"]) == wanted["solves"]
    # On a new day the chart is computed in full, until the boards are built anew.
    for i in range(4 if found["day"] == now.date().isoformat() else 0):
        assert int(found[f"solves{i + 1}"]) == wanted["chart_data"]["solves"][i]
        assert int(found[f"users{i + 1}"]) == wanted["chart_data"]["users"][i]


def value_of(cache: "redis.Redis", key: str) -> Any:
    raw: Any = cache.get(key)
    return None if raw is None else orjson.loads(raw)
