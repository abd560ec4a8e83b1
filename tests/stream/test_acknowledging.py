"""Accepted entries are acknowledged and removed, with the commands of the server."""

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.stream.event_stream import NEW, PENDING, Stream

pytestmark = pytest.mark.every_redis


@pytest.fixture
async def stream(async_cache: Redis) -> Stream:
    stream = Stream(async_cache, async_cache, "one", block=0.05, dead_limit=10)
    await stream.ensure_group()
    return stream


def publish(cache: "redis.Redis", events: int) -> None:
    with cache.pipeline() as pipeline:
        for _ in range(events):
            pipeline.xadd(keys.STREAM, {"data": "{}"})
        pipeline.execute()


def pending(cache: "redis.Redis") -> int:
    found: int = cache.xpending(keys.STREAM, keys.GROUP)["pending"]
    return found


async def test_xackdel_is_used_where_it_exists_and_is_safe(
    stream: Stream, cache: "redis.Redis"
) -> None:
    server = cache.info("server")
    version = tuple(map(int, server["redis_version"].split(".")))
    has_it = server.get("server_name", "redis") == "redis" and version >= (8, 2, 3)
    assert stream.acknowledges_with == ("XACKDEL" if has_it else "XACK and XDEL")


async def test_accepted_entries_are_neither_pending_nor_in_the_stream(
    stream: Stream, cache: "redis.Redis"
) -> None:
    publish(cache, 2500)  # more than fit in one command of the script
    entries = await stream.read(NEW, 2400)
    assert pending(cache) == len(entries) == 2400
    await stream.accept([entry.id for entry in entries], {}, [])
    assert pending(cache) == 0
    assert cache.xlen(keys.STREAM) == 100
    assert len(await stream.read(NEW, 1000)) == 100


async def test_entries_deleted_meanwhile_are_acknowledged(
    stream: Stream, cache: "redis.Redis"
) -> None:
    publish(cache, 3)
    entries = await stream.read(NEW, 10)
    cache.xtrim(keys.STREAM, maxlen=0)
    await stream.accept([entry.id for entry in entries], {}, [])
    assert pending(cache) == 0
    assert await stream.read(PENDING, 10) == []


async def test_accepting_entries_again_changes_nothing(
    stream: Stream, cache: "redis.Redis"
) -> None:
    publish(cache, 3)
    ids = [entry.id for entry in await stream.read(NEW, 10)]
    publish(cache, 1)
    for _ in range(2):
        await stream.accept(ids, {}, [])
    assert cache.xlen(keys.STREAM) == 1
