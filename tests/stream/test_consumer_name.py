"""One living daemon holds a name at a time."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.dev import embedded
from statsd.stream import consumer_name
from statsd.stream.consumer_name import WATCH_TIME, ConsumerName, NameLostError
from tests.support.processes import DEADLINE, daemon, eventually


@pytest.fixture
def named(async_cache: Redis) -> Callable[[], ConsumerName]:
    """Make daemons that all want one name."""
    return lambda: ConsumerName(async_cache, "host")


@pytest.fixture
def no_name_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon waits for a silent holder longer than the test."""
    monkeypatch.setattr(consumer_name, "WATCH_TIME", 3600.0)


@pytest.mark.usefixtures("no_name_is_taken_over")
async def test_a_free_name_is_held_at_once(
    named: Callable[[], ConsumerName],
) -> None:
    name = named()
    await asyncio.wait_for(name.acquire(), DEADLINE)
    assert name.text == "host"


async def test_where_the_name_is_in_use_the_next_number_is_added(
    named: Callable[[], ConsumerName],
) -> None:
    names = []
    async with asyncio.TaskGroup() as heartbeats:
        tasks = []
        for _ in range(3):
            name = named()
            await name.acquire()
            names.append(name.text)
            tasks.append(heartbeats.create_task(keep_alive(name)))
        for task in tasks:
            task.cancel()
    assert names == ["host", "host-2", "host-3"]


async def keep_alive(name: ConsumerName) -> None:
    while True:
        await name.step()


async def test_the_name_of_a_dead_daemon_is_taken_over(
    named: Callable[[], ConsumerName], cache: "redis.Redis"
) -> None:
    await named().acquire()
    cache.pexpire(keys.heartbeat("host"), 3_600_000)  # longer than the test
    heir = named()
    began = monotonic()
    await asyncio.wait_for(heir.acquire(), DEADLINE)
    assert heir.text == "host"
    assert monotonic() - began >= WATCH_TIME


@pytest.mark.usefixtures("no_name_is_taken_over")
async def test_a_released_name_is_free_at_once(named: Callable[[], ConsumerName]) -> None:
    first, second = named(), named()
    await first.acquire()
    await first.leave()
    await asyncio.wait_for(second.acquire(), DEADLINE)
    assert second.text == "host"


async def test_a_daemon_that_lost_its_name_raises_an_error(
    named: Callable[[], ConsumerName],
) -> None:
    silent, heir = named(), named()
    await silent.acquire()
    await heir.acquire()
    with pytest.raises(NameLostError, match="Another daemon took"):
        await silent.step()
    await silent.leave()
    await heir.step()  # it still holds the name


async def test_a_deleted_heartbeat_is_written_again(
    named: Callable[[], ConsumerName], cache: "redis.Redis"
) -> None:
    name = named()
    await name.acquire()
    cache.flushall()
    await name.step()
    assert cache.exists(keys.heartbeat("host"))


def test_two_daemons_with_one_name_work_under_two_names(
    database: str, redis_server: embedded.Redis, cache: "redis.Redis", tmp_path: Path
) -> None:
    variables = {
        "DATABASE_URL": database,
        "REDIS_URL": redis_server.url,
        "STATSD_CONSUMER_SUFFIX": "twin",
    }
    with (
        daemon(tmp_path / "one", **variables) as one,
        daemon(tmp_path / "two", **variables) as two,
    ):
        lines = [each.started().lines("started")[0] for each in (one, two)]
        names = sorted(line["consumer"] for line in lines)
        assert names[1] == names[0] + "-2"
        warned = [*one.lines(WARNING), *two.lines(WARNING)]
        assert [line["consumer"] for line in warned] == names[1:]

        def both() -> bool:
            found: Any = cache.xinfo_consumers(keys.STREAM, keys.GROUP)
            return {each["name"].decode() for each in found} == set(names)

        eventually(both, "both are in the group")


WARNING = "another daemon has this name; set STATSD_CONSUMER_SUFFIX"
