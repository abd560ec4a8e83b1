"""STATSD_EXPORTS=0: readers take crews from the state of the dojo, sync and async.

The states are written by hand, since there is no daemon in the environment of a web application.
tests/boards/test_boards_left_out.py has those of a daemon.
"""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
import redis

from statsd import keys
from statsd.calculators import user_entries
from statsd.calculators.user_entries import COUNTED, SCORED, VISIBLE
from statsd.client import Reader
from tests.client.conftest import Read
from tests.client.ctfd import DOJO

pytestmark = pytest.mark.usefixtures("required")

EPOCH, GENERATION, NOW = "1700000000000000", "1700000000000002", 1_700_000_001_000_000
DAY = 86_400_000_000  # microseconds
FIRST, SECOND, THIRD = 2, 3, 4

Solve = tuple[int, int, int, int]
"""module_index, challenge_id, solve_id, flags."""

SOLVES: dict[int, tuple[str, list[Solve]]] = {
    FIRST: ("first [x]", [(0, 11, 1, 7), (0, 10, 2, COUNTED), (1, 10, 2, COUNTED)]),
    SECOND: ("second", [(0, 10, 3, COUNTED)]),
    THIRD: ("third[X ]", [(0, 10, 4, COUNTED), (0, 12, 5, VISIBLE), (0, 13, 6, SCORED)]),
}


def record_of(solves: Sequence[Solve], date: int = NOW - DAY) -> bytes:
    entries = [
        user_entries.ENTRY.pack(module, row, challenge, solve, date, flags)
        for row, (module, challenge, solve, flags) in enumerate(solves)
    ]
    header = user_entries.HEADER.pack(int(GENERATION), 0, 0, len(entries))
    return b"".join([header, *entries, user_entries.PLACE.pack(0, 1)])


@pytest.fixture
def state(cache: redis.Redis) -> str:
    """The prefix of a state of the dojo; the daemon leaves arrays out."""
    prefix = keys.generation(DOJO, int(GENERATION))
    cache.hset(keys.CLOCK, mapping={"epoch": EPOCH, "last": NOW, "exports": "0"})
    cache.set(keys.boards(DOJO), GENERATION)
    cache.hset(prefix, mapping={"epoch": EPOCH, "modules": ",0,1,", "log_from": GENERATION})
    for key in ("users", "tagged"):
        cache.hset(f"{prefix}:{key}", "-", "")
    cache.zadd(f"{prefix}:log", {"-": 0})
    for scope in ("dojo", "0", "1"):
        for days in (0, 7, 30):
            cache.zadd(f"{prefix}:{scope}:{days}", {"-": -1})
    for user, (name, solves) in SOLVES.items():
        add_user(cache, prefix, user, name, solves)
    return prefix


def add_user(
    cache: redis.Redis, prefix: str, user: int, name: str, solves: Sequence[Solve]
) -> None:
    person = user_entries.Person(name, f"{user}@example.com")
    cache.hset(keys.NAMES, str(user), f"{GENERATION}|{person.text}")
    cache.hset(f"{prefix}:users", str(user), record_of(solves))
    if person.is_tagged:
        cache.hset(f"{prefix}:tagged", str(user), "")
    for scope in ("dojo", "0", "1"):
        own = [
            solve
            for module, _, solve, flags in solves
            if flags & COUNTED and scope in ("dojo", str(module))
        ]
        if own:
            score = user_entries.score(len(own), max(own))
            for days in (0, 7, 30):
                cache.zadd(f"{prefix}:{scope}:{days}", {str(user): score})


def member(user: int, rank: int, solves: int, challenges: list[int]) -> dict[str, Any]:
    return {
        "rank": rank, "solves": solves, "user_id": user, "name": SOLVES[user][0],
        "email": f"{user}@example.com", "challenges": challenges,
    }  # fmt: skip


CREW = {
    "key": "x", "tag": "x", "score": 4, "unique": 2, "best_rank": 1, "rank": 1, "unique_rank": 1,
    "members": [member(FIRST, 1, 3, [10, 11]), member(THIRD, 3, 1, [10])],
}  # fmt: skip
OF_MODULE = CREW | {
    "score": 1, "unique": 1, "members": [member(FIRST, 1, 1, [10])],
}  # fmt: skip


def pending(cache: redis.Redis) -> list[bytes]:
    found: Any = cache.keys(f"{keys.JOB}*")
    return [*found]


@pytest.mark.usefixtures("state")
async def test_crews_come_from_the_state_though_there_is_an_array(
    read: Read, cache: redis.Redis
) -> None:
    for days in (0, 7, 30):
        cache.set(keys.crews(DOJO, None, days), orjson.dumps([CREW, CREW]))
        assert await read("get_crews", DOJO, days=days) == ([CREW], 1)
        assert await read("get_crews", DOJO, 1, days, mode="unique") == ([OF_MODULE], 1)
        assert await read("get_crews", DOJO, days=days, page=2) == ([], 1)
    assert await read("get_scoreboard", DOJO, 1) != ([], 0, None)
    assert not pending(cache)


@pytest.mark.parametrize("published", ["1", None, "garbled"])
async def test_where_arrays_are_kept_crews_come_from_them(
    read: Read, cache: redis.Redis, state: str, published: str | None
) -> None:
    assert state
    cache.set(keys.crews(DOJO), orjson.dumps([CREW, CREW]))
    if published is None:
        cache.hdel(keys.CLOCK, "exports")
    else:
        cache.hset(keys.CLOCK, "exports", published)
    assert (await read("get_crews", DOJO)).total == 2
    assert not pending(cache)


async def test_solves_that_have_left_the_window_are_not_listed(
    read: Read, cache: redis.Redis, state: str
) -> None:
    """At the end of the window, a solve is still inside."""
    for age, challenges in ((7 * DAY, [10]), (7 * DAY + 1, [])):
        cache.hset(f"{state}:users", str(FIRST), record_of([(1, 10, 2, COUNTED)], NOW - age))
        [crew] = (await read("get_crews", DOJO, 1, 7)).entries
        assert crew["members"] == [member(FIRST, 1, 1, challenges)]
        [crew] = (await read("get_crews", DOJO, 1, 30)).entries
        assert crew["members"] == [member(FIRST, 1, 1, [10])]


async def test_a_board_without_tagged_users_has_no_crews(
    read: Read, cache: redis.Redis, state: str
) -> None:
    cache.zrem(f"{state}:1:0", str(FIRST))
    assert await read("get_crews", DOJO, 1) == ([], 0)
    cache.delete(f"{state}:tagged")
    cache.hset(f"{state}:tagged", "-", "")
    assert await read("get_crews", DOJO) == ([], 0)
    assert not pending(cache)


async def test_more_users_than_are_read_at_once(read: Read, cache: redis.Redis, state: str) -> None:
    for user in range(1000, 1700):
        add_user(cache, state, user, f"u{user} [many]", [(0, 10, user, COUNTED)])
    crews = {crew["key"]: crew for crew in (await read("get_crews", DOJO)).entries}
    assert [each["user_id"] for each in crews["many"]["members"]] == [*range(1000, 1700)]
    assert {len(each["challenges"]) for each in crews["many"]["members"]} == {1}
    assert crews["x"] == CREW | {"rank": 2, "unique_rank": 1}
    assert not pending(cache)


@pytest.mark.parametrize(
    "broken", ["pointer", "header", "board", "tagged", "log", "record", "garbled", "name", "epoch"]
)
async def test_crews_are_computed_where_the_state_cannot_be_read(
    read: Read, cache: redis.Redis, state: str, broken: str
) -> None:
    damage = {
        "pointer": lambda: cache.delete(keys.boards(DOJO)),
        "header": lambda: cache.delete(state),
        "board": lambda: cache.delete(f"{state}:dojo:0"),
        "tagged": lambda: cache.delete(f"{state}:tagged"),
        "log": lambda: cache.delete(f"{state}:log"),
        "record": lambda: cache.hdel(f"{state}:users", str(THIRD)),
        "garbled": lambda: cache.hset(f"{state}:users", str(THIRD), "garbled"),
        "name": lambda: cache.hdel(keys.NAMES, str(THIRD)),
        "epoch": lambda: cache.hset(keys.CLOCK, "epoch", "1"),
    }
    damage[broken]()
    assert await read("get_crews", DOJO) == ([], 0)  # nobody in the database has a tag
    assert pending(cache) == [keys.job(f"crews:{DOJO}").encode()]


@pytest.mark.usefixtures("state")
def test_a_client_that_decodes_replies_reads_them_too(engine: Any, cache: redis.Redis) -> None:
    arguments = cache.get_connection_kwargs()
    client = redis.Redis(
        host=arguments["host"], port=arguments["port"], protocol=2, decode_responses=True
    )
    assert Reader(client, engine).get_crews(DOJO) == ([CREW], 1)
    cache.hset(keys.CLOCK, "exports", "1")
    cache.set(keys.crews(DOJO), orjson.dumps([OF_MODULE]))
    assert Reader(client, engine).get_crews(DOJO) == ([OF_MODULE], 1)
    client.close()


@pytest.mark.parametrize("exports", ["0", "1"])
async def test_a_reader_that_is_switched_off_computes(
    engine: Any, cache: redis.Redis, state: str, exports: str
) -> None:
    assert state
    cache.hset(keys.CLOCK, "exports", exports)
    assert Reader(cache, engine, enabled=False).get_crews(DOJO) == ([], 0)
    assert not pending(cache)
