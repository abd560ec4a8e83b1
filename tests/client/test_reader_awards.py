"""Readers of belts, emojis, activity, crews and containers, sync and async."""

from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest
import redis
import sqlalchemy as sa

from statsd import keys, schema
from statsd.calculators import activity, belts, emojis
from statsd.calculators.activity import Activity
from statsd.calculators.belts import COLORS, Belts
from statsd.calculators.crews import Crews
from statsd.calculators.emojis import Emojis
from statsd.client import CrewPage, Reader
from statsd.dev import embedded
from tests.client.conftest import Read
from tests.client.ctfd import DOJO, OTHER_DOJO

pytestmark = pytest.mark.usefixtures("required")

HEX, OTHER_HEX = "fffffffb", "00000007"
GONE_HEX = "0000000a"
DATE = "2025-01-02 03:04:05"


@pytest.fixture
def awards(engine: Any) -> datetime:
    """Both dojos award emojis; the user has one of each, one of neither, and a belt.

    Return when the user solved something of late.
    """
    with engine.begin() as connection:
        solved: datetime = connection.scalar(sa.text("SELECT now() AT TIME ZONE 'UTC'"))
        solved -= timedelta(days=3)
        for dojo_id, kind in ((DOJO, "public"), (OTHER_DOJO, "course")):
            data = {"type": kind, "award": {"emoji": "🧪"}}
            connection.execute(
                sa.update(schema.dojos).where(schema.dojos.c.dojo_id == dojo_id).values(data=data)
            )
        connection.execute(sa.delete(schema.awards))
        for kind, name, category in (
            ("belt", "blue", None),
            ("emoji", "CURRENT", HEX),
            ("emoji", "STALE", OTHER_HEX),
            ("emoji", "CURRENT", GONE_HEX),
            ("emoji", "CUSTOM", None),
        ):
            connection.execute(
                sa.insert(schema.awards).values(
                    user_id=2,
                    type=kind,
                    name=name,
                    category=category,
                    icon="🐉",
                    description=f"<{category}>",
                    date=datetime.fromisoformat(DATE),
                )
            )
        connection.execute(
            sa.insert(schema.submissions).values(
                user_id=2, challenge_id=3, type="correct", date=solved
            )
        )
        connection.execute(sa.update(schema.users).values(name="user [crew]"))
    return solved


def categories(value: Any, user: str = "2") -> set[str | None]:
    return {entry["category"] for entry in value["emojis"].get(user, [])}


def pending(cache: redis.Redis) -> set[str]:
    """The pending jobs, without those of the first use of an empty Redis."""
    queue: Any = cache.keys(f"{keys.JOB}*")
    names = {key.decode().removeprefix(f"{keys.JOB}") for key in queue}
    return names - {"reconcile"}


# --- computed


@pytest.mark.usefixtures("awards")
async def test_belts_are_computed_and_pending(read: Read, cache: redis.Redis) -> None:
    value = await read("get_belts")
    assert value["dates"]["blue"] == {"2": DATE}
    assert value["ranks"] == {color: [2] if color == "blue" else [] for color in COLORS}
    assert value["users"]["2"] == {
        "handle": "user [crew]",
        "site": None,
        "color": "blue",
        "date": DATE,
    }
    assert await read("get_user_belts", 2) == {"blue": DATE}
    assert await read("get_user_belts", 3) == {}
    assert pending(cache) == {Belts().name}


@pytest.mark.usefixtures("awards")
async def test_emojis_are_those_of_dojos_that_may_be_seen(read: Read, cache: redis.Redis) -> None:
    value = await read("get_emojis")
    assert categories(value) == {None, HEX}
    assert set(value["dojos"]) == {HEX}
    assert OTHER_HEX not in str(value)
    named = await read("get_emojis", viewable=[OTHER_DOJO, 10])
    assert categories(named) == {None, HEX, OTHER_HEX, GONE_HEX}
    assert set(named["dojos"]) == {HEX, OTHER_HEX}
    assert await read("get_emojis", viewable=(dojo_id for dojo_id in (OTHER_DOJO, 10))) == named
    assert await read("get_emojis", viewable={2**32 + OTHER_DOJO}) == value  # no such dojo
    [stale] = [entry for entry in named["emojis"]["2"] if entry["stale"]]
    assert (stale["url"], stale["is_public"]) == (f"/dojo/other~{OTHER_HEX}", False)
    assert pending(cache) == {Emojis().name}


@pytest.mark.usefixtures("awards")
async def test_a_user_without_a_visible_emoji_is_not_named(read: Read, engine: Any) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.insert(schema.awards).values(user_id=3, type="emoji", category=OTHER_HEX)
        )
    assert set((await read("get_emojis"))["emojis"]) == {"2"}
    assert set((await read("get_emojis", viewable={OTHER_DOJO}))["emojis"]) == {"2", "3"}


async def test_activity_is_that_of_one_user(
    read: Read, cache: redis.Redis, awards: datetime
) -> None:
    assert await read("get_activity", 2) == {
        "solve_timestamps": [f"{awards.isoformat()}Z"],
        "total_solves": 1,
    }
    assert pending(cache) == {Activity(2).name}
    assert await read("get_activity", 3) == activity.empty()
    assert pending(cache) == {Activity(2).name, Activity(3).name}


@pytest.mark.parametrize("user_id", [123_456, -1, 2**31, -(2**70)])
async def test_a_user_who_does_not_exist_has_no_activity_and_nothing_is_enqueued(
    read: Read, cache: redis.Redis, user_id: int
) -> None:
    assert await read("get_activity", user_id) == activity.empty()
    assert await read("get_user_belts", user_id) == {}
    assert pending(cache) <= {Belts().name}


@pytest.mark.usefixtures("awards")
async def test_crews_are_computed_and_pending(read: Read, cache: redis.Redis) -> None:
    page = await read("get_crews", DOJO)
    assert isinstance(page, CrewPage)
    [crew] = page.entries
    assert (crew["tag"], crew["score"], crew["rank"], page.total) == ("crew", 1, 1, 1)
    assert [member["challenges"] for member in crew["members"]] == [[2]]
    assert await read("get_crews", DOJO, 0) == page
    assert await read("get_crews", DOJO, 1) == ([], 0)
    assert await read("get_crews", DOJO, days=7) == ([], 0)
    assert await read("get_crews", 123_456) == ([], 0)
    assert pending(cache) == {Crews(DOJO).name}


async def test_nobody_computes_containers(read: Read, cache: redis.Redis) -> None:
    assert await read("get_containers") == []
    assert not cache.keys("stats:*")
    running = [{"dojo": "intro~fffffffb", "module": "m", "challenge": "c"}]
    cache.set(keys.CONTAINERS, orjson.dumps(running))
    assert await read("get_containers") == running


# --- from the cache


CREWS = [
    {"tag": f"t{n}", "rank": n, "unique_rank": 46 - n, "score": 50 - n, "members": []}
    for n in range(1, 46)
]


async def test_pages_of_crews_are_ranked_in_either_way(read: Read, cache: redis.Redis) -> None:
    cache.set(keys.crews(DOJO, None, 30), orjson.dumps(CREWS))
    assert await read("get_crews", DOJO, days=30) == (CREWS[:20], 45)
    assert await read("get_crews", DOJO, None, 30, page=3) == (CREWS[40:], 45)
    unique = await read("get_crews", DOJO, days=30, mode="unique", page=2, per_page=5)
    assert [crew["unique_rank"] for crew in unique.entries] == [6, 7, 8, 9, 10]
    assert await read("get_crews", DOJO, days=30, page=10**30) == ([], 45)


async def test_each_value_is_read_from_its_own_key(read: Read, cache: redis.Redis) -> None:
    cached = belts.empty()
    cached["dates"]["red"]["7"] = cached["dates"]["black"]["7"] = DATE
    cache.set("stats:belts", orjson.dumps(cached))
    cache.set("stats:emojis", orjson.dumps({"emojis": {}, "dojos": {}, "more": 1}))
    cache.set("stats:activity:7", orjson.dumps({"total_solves": 3}))
    cache.set(f"stats:crews:module:{DOJO}:1:7", orjson.dumps(CREWS[:1]))
    assert await read("get_belts") == cached
    assert list(await read("get_user_belts", 7)) == ["red", "black"]
    assert await read("get_emojis") == emojis.empty()
    assert await read("get_activity", 7) == {"total_solves": 3}
    assert (await read("get_crews", DOJO, 1, 7)).total == 1
    assert not pending(cache)


@pytest.mark.usefixtures("awards")
@pytest.mark.parametrize("garbled", [b'{"x": 1}', b"[]", b"7", b"{"])
async def test_a_value_of_another_form_counts_as_missing(
    read: Read, cache: redis.Redis, garbled: bytes
) -> None:
    for key in (keys.BELTS, keys.EMOJIS):
        cache.set(key, garbled)
    assert await read("get_user_belts", 2) == {"blue": DATE}
    assert categories(await read("get_emojis")) == {None, HEX}


@pytest.mark.usefixtures("awards")
async def test_an_award_counted_in_an_emoji_of_another_dojo_is_not_shown_with_it(
    read: Read, engine: Any
) -> None:
    with engine.begin() as connection:
        for text in ("secret one", "secret two"):
            connection.execute(
                sa.insert(schema.awards).values(
                    user_id=2,
                    type="emoji",
                    name="CUSTOM",
                    category="0000000a",
                    icon="🐉",
                    description=text,
                    date=datetime.fromisoformat("2025-02-03"),
                )
            )
    assert "secret" not in str(await read("get_emojis"))
    first, *_ = (await read("get_emojis", viewable=[10]))["emojis"]["2"]
    assert (first["count"], first["text"].splitlines()[1:]) == (3, ["secret one", "secret two"])


# --- empty, and refused


def test_without_the_fallback_all_is_empty_and_all_colours_are_there(
    engine: Any, redis_server: embedded.Redis, cache: redis.Redis
) -> None:
    reader = Reader.from_url(engine, redis_server.url, fallback=False)
    assert reader.get_belts() == belts.empty()
    assert list(reader.get_belts()["ranks"]) == list(COLORS)
    assert reader.get_user_belts(2) == {}
    assert reader.get_emojis() == {"emojis": {}, "dojos": {}}
    assert reader.get_activity(2) == {"solve_timestamps": [], "total_solves": 0}
    assert reader.get_crews(DOJO) == ([], 0)
    assert reader.get_containers() == []
    assert not cache.keys("stats:*")
    reader.close()


@pytest.mark.parametrize(
    ("method", "arguments", "named", "name"),
    [
        ("get_user_belts", ("2",), {}, "user_id"),
        ("get_activity", (True,), {}, "user_id"),
        ("get_emojis", (), {"viewable": ["7"]}, r"viewable\[0\]"),
        ("get_crews", ("intro",), {}, "dojo_id"),
        ("get_crews", (DOJO, "0"), {}, "module_index"),
        ("get_crews", (DOJO,), {"days": 7.0}, "days"),
        ("get_crews", (DOJO,), {"page": "1"}, "page"),
    ],
)
async def test_an_id_that_is_no_integer_is_refused(
    read: Read, method: str, arguments: tuple[Any, ...], named: dict[str, Any], name: str
) -> None:
    with pytest.raises(TypeError, match=f"{name} must be an int"):
        await read(method, *arguments, **named)


@pytest.mark.parametrize(
    "named", [{"days": 1}, {"page": 0}, {"per_page": 0}, {"mode": "best"}], ids=str
)
async def test_nonsense_is_refused(read: Read, named: dict[str, Any]) -> None:
    [name] = named
    with pytest.raises(ValueError, match=rf"{name} must be"):
        await read("get_crews", DOJO, **named)
