"""`statsd dead`: listing, showing, replaying and dropping dead letters."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators.dojo_stats import DojoStats
from statsd.dev import embedded
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import LeaseRequest, Queue
from statsd.stream.event_stream import CUT, DeadEntry, Entry, Stream
from tests.support.processes import environment

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def dead(redis_server: embedded.Redis, cache: "redis.Redis") -> Run:
    """Run `statsd dead ...`; return its exit code and its output."""
    assert not cache.dbsize()
    variables = {"REDIS_URL": redis_server.url}

    def run(*arguments: str, **others: str) -> tuple[int, str]:
        ended = subprocess.run(
            [sys.executable, "-m", "statsd", "dead", *arguments],
            env=environment(variables | others),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return ended.returncode, ended.stdout

    return run


async def bury(async_cache: Redis, data: bytes | None) -> str:
    """Bury an entry as the consumer does; return the id of the dead letter."""
    stream = Stream(async_cache, async_cache, "one", block=0.05, dead_limit=10_000)
    entry = Entry("1-1", data, deleted=False)
    await stream.accept([], {}, [DeadEntry(entry, "ValueError: \x1b[31mno\nno", "Traceback", None)])
    return await newest(async_cache)


async def bury_job(async_cache: Redis) -> str:
    queue = Queue(async_cache, "one", lease=30, dead_limit=10_000)
    await queue.enqueue([PendingJob(DojoStats(-5))])
    while attempt := (await queue.lease(LeaseRequest({"reconcile": 1, "dojo_stats": 1}))).attempt:
        await queue.fail(attempt, [], {"error": "no", "traceback": "Traceback"})
        if attempt.names == ("reconcile",):  # a new clock enqueues it
            await async_cache.delete(keys.DEAD_LETTERS)
    return await newest(async_cache)


async def newest(async_cache: Redis) -> str:
    letters: Any = await async_cache.xrevrange(keys.DEAD_LETTERS, count=1)
    [(letter_id, _)] = letters
    return str(letter_id.decode())


async def test_dead_letters_are_listed_newest_first_in_one_line_each(
    dead: Run, async_cache: Redis
) -> None:
    job = await bury_job(async_cache)
    entry = await bury(async_cache, b"rubbish")
    code, output = dead("list")
    assert code == 0
    first, second = output.splitlines()
    assert first.startswith(entry)
    assert "event 1-1" in first
    assert second.startswith(job)
    assert "dojo_stats:-5" in second
    assert "\x1b" not in output


async def test_a_list_can_be_limited(dead: Run, async_cache: Redis) -> None:
    for _ in range(3):
        await bury(async_cache, b"rubbish")
    assert len(dead("list", "--limit", "2")[1].splitlines()) == 2


def test_an_empty_list_is_reported(dead: Run) -> None:
    for command in (["list"], ["replay", "--all"], ["drop", "--all"]):
        assert dead(*command) == (0, "there are no dead letters\n")


async def test_a_dead_letter_is_shown_in_full_with_control_characters_escaped(
    dead: Run, async_cache: Redis
) -> None:
    letter = await bury(async_cache, b"\x1b[2J\xff\x00rubbish")
    code, output = dead("show", letter)
    assert code == 0
    assert r"data: \x1b[2J\xff\x00rubbish" in output
    assert "traceback: Traceback" in output
    assert "consumer: one" in output


@pytest.mark.every_redis
async def test_a_replayed_entry_is_in_the_stream_again(
    dead: Run, async_cache: Redis, cache: "redis.Redis"
) -> None:
    data = orjson.dumps({"type": "belts_update"})
    letter = await bury(async_cache, data)
    assert dead("replay", letter) == (0, f"{letter}  replayed\n")
    stream: Any = cache.xrange(keys.STREAM)
    assert [fields for _, fields in stream] == [{b"data": data}]
    assert cache.xlen(keys.DEAD_LETTERS) == 0


@pytest.mark.every_redis
async def test_a_replayed_job_is_pending_again(
    dead: Run, async_cache: Redis, cache: "redis.Redis"
) -> None:
    letter = await bury_job(async_cache)
    assert dead("replay", letter)[0] == 0
    assert cache.zscore(f"{keys.INTERNAL}due:1", "dojo_stats:-5") is not None
    assert cache.xlen(keys.DEAD_LETTERS) == 0


@pytest.mark.parametrize("data", [None, b"x" * 70_000])
async def test_an_entry_with_incomplete_data_is_not_replayed(
    dead: Run, async_cache: Redis, cache: "redis.Redis", data: bytes | None
) -> None:
    letter = await bury(async_cache, data)
    code, output = dead("replay", letter)
    assert code == 1
    assert "not replayed" in output
    assert cache.xlen(keys.DEAD_LETTERS) == 1
    if data:
        assert CUT.decode() in dead("show", letter)[1]


async def test_all_dead_letters_are_replayed_or_dropped_at_once(
    dead: Run, async_cache: Redis, cache: "redis.Redis"
) -> None:
    for _ in range(3):
        await bury(async_cache, b"{}")
    assert dead("replay", "--all")[0] == 0
    assert (cache.xlen(keys.STREAM), cache.xlen(keys.DEAD_LETTERS)) == (3, 0)
    for _ in range(3):
        await bury(async_cache, b"{}")
    assert dead("drop", "--all")[0] == 0
    assert (cache.xlen(keys.STREAM), cache.xlen(keys.DEAD_LETTERS)) == (3, 0)


async def test_a_dropped_dead_letter_is_gone(
    dead: Run, async_cache: Redis, cache: "redis.Redis"
) -> None:
    letter = await bury(async_cache, b"{}")
    assert dead("drop", letter) == (0, f"{letter}  dropped\n")
    assert cache.xlen(keys.DEAD_LETTERS) == 0
    assert dead("drop", letter) == (1, f"{letter}  not found\n")
    assert dead("replay", letter) == (1, f"{letter}  not found\n")
    missing = f"statsd: there is no dead letter {letter}; see `statsd dead list`\n"
    assert dead("show", letter) == (1, missing)


@pytest.mark.parametrize("arguments", [("replay",), ("drop",), ("drop", "1-1", "--all")])
def test_the_command_needs_either_ids_or_all(dead: Run, arguments: tuple[str, ...]) -> None:
    assert dead(*arguments)[0] == 2


def test_a_malformed_id_is_refused(dead: Run) -> None:
    code, output = dead("show", "-")
    assert code == 2
    assert "statsd dead list" in output


def test_an_unavailable_redis_is_reported_in_one_line(dead: Run) -> None:
    code, output = dead("list", REDIS_URL="redis://127.0.0.1:1")
    assert code == 1
    assert output.startswith("statsd: Redis (REDIS_URL) does not serve:")
    assert output.count("\n") == 1
