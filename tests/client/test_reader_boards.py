"""Readers of scoreboards, scores and solves of challenges, sync and async."""

from decimal import Decimal
from enum import IntEnum
from typing import Any

import orjson
import pytest
import redis
import sqlalchemy as sa

from statsd import keys, schema
from statsd.calculators import user_entries
from statsd.calculators.challenge_solves import ChallengeSolves
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.scores import Scores
from statsd.client import Reader, ScoreboardEntry, ScoreboardPage
from statsd.dev import embedded
from tests.client.conftest import Read
from tests.client.ctfd import DOJO, OTHER_DOJO

pytestmark = pytest.mark.usefixtures("required")

EMPTY_SCORES: dict[str, Any] = {"ranks": [], "solves": {}}
ENTRY = {"rank": 1, "solves": 1, "user_id": 2, "name": "user 2", "email": "two@example.com"}
BOARD: list[ScoreboardEntry] = [
    {"rank": n, "solves": 100 - n, "user_id": 1000 + n, "name": f"u{n}", "email": None}
    for n in range(1, 46)
]
NOWHERE = [(123_456, None), (123_456, 0), (DOJO, 2), (DOJO, -1), (2**31, None), (DOJO, 2**70)]


@pytest.fixture(autouse=True)
def email(engine: Any) -> None:
    with engine.begin() as connection:
        user = schema.users.c.id == 2
        connection.execute(sa.update(schema.users).where(user).values(email="two@example.com"))


@pytest.fixture
def board(cache: redis.Redis) -> None:
    """The cache has a scoreboard of 45 users."""
    cache.set(keys.scoreboard(DOJO), orjson.dumps(BOARD))


# --- from the live boards

EPOCH, GENERATION = "1700000000000000", "1700000000000002"


def text_of(name: str, email: str | None) -> str:
    """A user's name and e-mail address as they are stored, behind the token of their snapshot."""
    return f"{GENERATION}|{user_entries.Person(name, email).text}"


@pytest.fixture
def live(cache: redis.Redis) -> str:
    """The prefix of live boards of the same users, in another order than the array's."""
    prefix = keys.generation(DOJO, int(GENERATION))
    scores = {n: user_entries.score(n, n) for n in range(1, 46)}
    cache.hset(keys.CLOCK, "epoch", EPOCH)
    cache.set(keys.boards(DOJO), GENERATION)
    cache.hset(prefix, "epoch", EPOCH)
    cache.zadd(f"{prefix}:dojo:0", {"-": -1} | {f"{1000 + n}": scores[n] for n in scores})
    cache.hset(keys.NAMES, mapping={f"{1000 + n}": text_of(f"u{n}", "a|b") for n in scores})
    return prefix


LIVE: list[ScoreboardEntry] = [
    {"rank": 46 - n, "solves": n, "user_id": 1000 + n, "name": f"u{n}", "email": "a|b"}
    for n in range(45, 0, -1)
]


@pytest.mark.usefixtures("live", "board")
async def test_a_page_comes_from_the_live_board_where_there_is_one(read: Read) -> None:
    assert await read("get_scoreboard", DOJO) == (LIVE[:20], 45, None)
    assert await read("get_scoreboard", DOJO, page=3, me=1001) == (LIVE[40:], 45, LIVE[44])
    assert await read("get_scoreboard", DOJO, page=10**30, me=7) == ([], 45, None)
    assert await read("get_rank", DOJO, 1045) == 1
    assert await read("get_solves", DOJO, 1003) == 3
    assert await read("get_rank", DOJO, 7) is None
    assert await read("get_solves", DOJO, 7) == 0


async def test_an_empty_live_board_is_one(read: Read, cache: redis.Redis, live: str) -> None:
    cache.zadd(f"{live}:0:30", {"-": -1})
    assert await read("get_scoreboard", DOJO, 0, 30, me=2) == ([], 0, None)


@pytest.mark.usefixtures("board")
async def test_only_the_current_generation_of_a_state_is_read(
    read: Read, cache: redis.Redis, live: str
) -> None:
    """One that is being built, or removed, has no pointer."""
    being_built = keys.generation(DOJO, int(GENERATION) + 1)
    cache.hset(being_built, "epoch", EPOCH)
    cache.zadd(f"{being_built}:dojo:0", {"-": -1})
    assert await read("get_scoreboard", DOJO) == (LIVE[:20], 45, None)
    cache.set(keys.boards(DOJO), int(GENERATION) + 1)
    assert await read("get_scoreboard", DOJO) == ([], 0, None)
    cache.delete(being_built)
    assert (await read("get_scoreboard", DOJO)).entries == BOARD[:20]
    cache.set(keys.boards(DOJO), GENERATION)
    cache.delete(live)
    assert (await read("get_scoreboard", DOJO)).entries == BOARD[:20]


@pytest.mark.usefixtures("board", "live")
@pytest.mark.parametrize("epoch", ["1700000000000001", None])
async def test_a_state_of_another_epoch_is_not_read(
    read: Read, cache: redis.Redis, epoch: str | None
) -> None:
    """Redis lost the clock since, and perhaps events too."""
    if epoch is None:
        cache.delete(keys.CLOCK)
    else:
        cache.hset(keys.CLOCK, "epoch", epoch)
    assert (await read("get_scoreboard", DOJO)).entries == BOARD[:20]


@pytest.mark.usefixtures("board", "live")
async def test_where_a_name_is_missing_the_array_is_read(read: Read, cache: redis.Redis) -> None:
    cache.hdel(keys.NAMES, "1044")
    assert await read("get_scoreboard", DOJO, per_page=5) == (BOARD[:5], 45, None)
    assert (await read("get_scoreboard", DOJO, page=2, me=1044)).me == BOARD[43]
    assert await read("get_scoreboard", DOJO, page=2) == (LIVE[20:40], 45, None)


@pytest.mark.usefixtures("board", "live")
@pytest.mark.parametrize("name", ["x", "", "1|x", '1|["a"]', "1|7", "1|", '["a", null]'])
async def test_where_a_name_is_garbled_the_array_is_read(
    read: Read, cache: redis.Redis, name: str
) -> None:
    cache.hset(keys.NAMES, "1044", name)
    assert await read("get_scoreboard", DOJO, per_page=5) == (BOARD[:5], 45, None)


@pytest.mark.usefixtures("live")
def test_a_client_that_decodes_replies_reads_them_too(
    engine: Any, redis_server: embedded.Redis
) -> None:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        page = Reader(client, engine, enabled=True).get_scoreboard(DOJO, me=1001)
    assert page == (LIVE[:20], 45, LIVE[44])


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize("of", ["pointer", "generation", "board", "names", "clock"])
async def test_a_key_of_another_type_is_none(
    read: Read, cache: redis.Redis, live: str, of: str
) -> None:
    key = {
        "pointer": keys.boards(DOJO),
        "generation": live,
        "board": f"{live}:dojo:0",
        "names": keys.NAMES,
        "clock": keys.CLOCK,
    }[of]
    cache.delete(key)
    cache.rpush(key, "a list")
    assert await read("get_scoreboard", DOJO) == (BOARD[:20], 45, None)


# --- arguments that are no ids


@pytest.mark.parametrize("no_id", ["3", "a-dojo", 3.0, Decimal(3), True, b"3", None], ids=repr)
@pytest.mark.parametrize(
    ("method", "rest"),
    [
        ("get_scoreboard", ()),
        ("get_rank", (2,)),
        ("get_solves", (2,)),
        ("get_dojo_scores", ()),
        ("get_module_scores", (0,)),
        ("get_challenge_solves", (0,)),
    ],
)
async def test_an_id_that_is_no_integer_is_refused_at_once(
    read: Read, method: str, rest: tuple[int, ...], no_id: Any
) -> None:
    with pytest.raises(TypeError, match=f"dojo_id must be an int, not {type(no_id).__name__}"):
        await read(method, no_id, *rest)
    if rest:  # a user, or a module
        with pytest.raises(TypeError, match=r"(user_id|module_index) must be an int"):
            await read(method, DOJO, no_id)


class Number(IntEnum):
    DOJO = DOJO


@pytest.mark.usefixtures("board")
async def test_an_integer_of_another_class_is_one(read: Read) -> None:
    assert (await read("get_scoreboard", Number.DOJO)).total == len(BOARD)


@pytest.mark.parametrize("value", [b"{}", b"5", b'"x"', b"null"])
async def test_a_cached_value_of_another_form_counts_as_missing(
    read: Read, cache: redis.Redis, value: bytes
) -> None:
    cache.set(keys.scoreboard(DOJO), value)
    assert (await read("get_scoreboard", DOJO)).total == 1


@pytest.mark.parametrize("no_days", [False, 7.0, "7", None], ids=repr)
async def test_a_window_that_only_equals_one_is_refused(read: Read, no_days: Any) -> None:
    for method, user in (("get_scoreboard", ()), ("get_rank", (2,)), ("get_solves", (2,))):
        with pytest.raises(TypeError, match=f"days must be an int, not {type(no_days).__name__}"):
            await read(method, DOJO, *user, days=no_days)


@pytest.mark.parametrize("argument", ["module_index", "page", "per_page", "me"])
async def test_other_numbers_of_a_scoreboard_are_integers_too(read: Read, argument: str) -> None:
    with pytest.raises(TypeError, match=f"{argument} must be an int, not str"):
        await read("get_scoreboard", DOJO, **{argument: "1"})


# --- from the cache


@pytest.mark.usefixtures("board")
async def test_a_page_of_a_scoreboard_has_its_entries_and_the_total(read: Read) -> None:
    assert await read("get_scoreboard", DOJO) == ScoreboardPage(BOARD[:20], 45, None)
    last = await read("get_scoreboard", DOJO, None, 0, 3, 20)
    assert last == (BOARD[40:], 45, None)
    five = await read("get_scoreboard", DOJO, page=2, per_page=5)
    assert five.entries == BOARD[5:10]


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize("page", [4, 10**30])
async def test_a_page_behind_the_last_is_empty(read: Read, page: int) -> None:
    assert await read("get_scoreboard", DOJO, page=page) == ([], 45, None)


@pytest.mark.usefixtures("board")
async def test_ones_own_entry_is_there_on_every_page(read: Read) -> None:
    page = await read("get_scoreboard", DOJO, page=1, per_page=10, me=1044)
    assert (len(page.entries), page.me) == (10, BOARD[43])
    assert (await read("get_scoreboard", DOJO, me=7)).me is None


@pytest.mark.usefixtures("board")
async def test_rank_and_solves_of_a_user(read: Read) -> None:
    assert await read("get_rank", DOJO, 1045) == 45
    assert await read("get_solves", DOJO, 1045) == 55
    assert await read("get_rank", DOJO, 7) is None
    assert await read("get_solves", DOJO, 7) == 0


async def test_each_value_is_read_from_its_own_key(read: Read, cache: redis.Redis) -> None:
    for number, key in enumerate(
        [
            keys.scoreboard(DOJO, None, 7),
            keys.scoreboard(DOJO, 1, 30),
            keys.scores(DOJO),
            keys.scores(DOJO, 1),
            keys.challenge_solves(DOJO, 1),
        ]
    ):
        value = [number] if "scoreboard" in key else {"number": number}
        cache.set(key, orjson.dumps(value))
    assert (await read("get_scoreboard", DOJO, days=7)).entries == [0]
    assert (await read("get_scoreboard", DOJO, 1, 30)).entries == [1]
    assert await read("get_dojo_scores", DOJO) == {"number": 2}
    assert await read("get_module_scores", DOJO, 1) == {"number": 3}
    assert await read("get_challenge_solves", DOJO, 1) == {"number": 4}


# --- computed


async def test_a_missing_value_is_computed_and_enqueued(read: Read, cache: redis.Redis) -> None:
    assert await read("get_scoreboard", DOJO, me=2) == ([ENTRY], 1, ENTRY)
    assert await read("get_scoreboard", DOJO, 0) == ([ENTRY], 1, None)
    assert await read("get_rank", DOJO, 2, module_index=0) == 1
    assert await read("get_solves", DOJO, 2, 0) == 1
    score = {"ranks": [2], "solves": {"2": 1}}
    assert await read("get_dojo_scores", DOJO) == score
    assert await read("get_module_scores", DOJO, 0) == score
    assert await read("get_challenge_solves", DOJO, 0) == {"2": 1}
    for job in (Scoreboard(DOJO), Scores(DOJO), ChallengeSolves(DOJO)):
        assert cache.hget(keys.job(job.name), "class") == b"0"
    assert not cache.exists(keys.scoreboard(DOJO))


async def test_where_nobody_solved_anything_it_is_empty(read: Read) -> None:
    for days in (7, 30):  # the solve is older
        assert await read("get_scoreboard", DOJO, days=days) == ([], 0, None)
        assert await read("get_rank", DOJO, 2, days=days) is None
    assert await read("get_scoreboard", DOJO, 1) == ([], 0, None)
    assert await read("get_module_scores", DOJO, 1) == EMPTY_SCORES
    assert await read("get_challenge_solves", DOJO, 1) == {}


async def test_a_private_dojo_has_empty_scores(read: Read) -> None:
    assert await read("get_dojo_scores", OTHER_DOJO) == EMPTY_SCORES
    assert await read("get_module_scores", OTHER_DOJO, 0) == EMPTY_SCORES


@pytest.mark.parametrize(("dojo_id", "module_index"), NOWHERE)
async def test_a_dojo_or_module_that_does_not_exist_is_empty_and_nothing_is_enqueued(
    read: Read, cache: redis.Redis, dojo_id: int, module_index: int | None
) -> None:
    assert await read("get_scoreboard", dojo_id, module_index) == ([], 0, None)
    assert await read("get_rank", dojo_id, 2, module_index) is None
    if module_index is None:
        assert await read("get_dojo_scores", dojo_id) == EMPTY_SCORES
    else:
        assert await read("get_module_scores", dojo_id, module_index) == EMPTY_SCORES
        assert await read("get_challenge_solves", dojo_id, module_index) == {}
    assert not cache.keys("stats:*")


@pytest.mark.parametrize(
    "named", [{"days": 1}, {"days": -7}, {"page": 0}, {"page": -1}, {"per_page": 0}], ids=str
)
async def test_nonsense_is_refused(read: Read, named: dict[str, int]) -> None:
    [name] = named
    with pytest.raises(ValueError, match=rf"{name} must be"):
        await read("get_scoreboard", DOJO, **named)


async def test_a_window_that_there_is_not_has_no_ranks(read: Read) -> None:
    for method in ("get_rank", "get_solves"):
        with pytest.raises(ValueError, match="days must be one of"):
            await read(method, DOJO, 2, days=14)


def test_without_the_fallback_a_miss_is_empty_and_nothing_is_enqueued(
    engine: Any, redis_server: embedded.Redis, cache: redis.Redis
) -> None:
    reader = Reader.from_url(engine, redis_server.url, fallback=False)
    assert reader.get_scoreboard(DOJO, me=2) == ([], 0, None)
    assert reader.get_dojo_scores(DOJO) == EMPTY_SCORES
    assert reader.get_challenge_solves(DOJO, 0) == {}
    assert not cache.keys("stats:*")
    reader.close()


def test_switched_off_a_scoreboard_is_computed(
    engine: Any, redis_server: embedded.Redis, cache: redis.Redis
) -> None:
    cache.set(keys.scoreboard(DOJO), orjson.dumps(BOARD))
    reader = Reader.from_url(engine, redis_server.url, enabled=False)
    assert reader.get_scoreboard(DOJO) == ([ENTRY], 1, None)
    reader.close()
