"""The check of group and server enqueues a reconcile in the step that detects a loss."""

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.jobs.attempt import Answer
from statsd.jobs.queue import LeaseRequest, Queue
from statsd.stream.event_stream import Stream

CLOCK = keys.CLOCK


@pytest.fixture
async def queue(async_cache: Redis) -> Queue:
    """The queue after a daemon's first check, with all jobs completed."""
    queue = Queue(async_cache, "one", lease=30, dead_limit=10)
    await check_group(async_cache)
    assert await complete_pending(queue) == ("reconcile",)
    return queue


async def check_group(cache: Redis) -> bool:
    """Check as a daemon that has just started."""
    return await Stream(cache, cache, "one", block=0.05, dead_limit=10).ensure_group()


async def complete_pending(queue: Queue) -> tuple[str, ...]:
    """Complete the pending jobs; return their names."""
    attempt = (await queue.lease(LeaseRequest({"reconcile": 1}))).attempt
    if attempt is None:
        return ()
    await queue.complete(attempt, dict.fromkeys(attempt.names, Answer({})))
    return attempt.names


async def test_a_second_check_enqueues_nothing(queue: Queue, async_cache: Redis) -> None:
    assert not await check_group(async_cache)
    assert await complete_pending(queue) == ()


async def test_a_missing_group_enqueues_a_reconcile(
    queue: Queue, async_cache: Redis, cache: "redis.Redis"
) -> None:
    cache.xgroup_destroy(keys.STREAM, keys.GROUP)
    assert await check_group(async_cache)
    assert await complete_pending(queue) == ("reconcile",)


async def test_a_restart_of_the_server_enqueues_a_reconcile(
    queue: Queue, async_cache: Redis, cache: "redis.Redis"
) -> None:
    """Also for a daemon that started after the restart."""
    cache.hset(CLOCK, "run", "another")
    assert await check_group(async_cache)
    assert await complete_pending(queue) == ("reconcile",)
    assert not await check_group(async_cache)
    assert await complete_pending(queue) == ()


async def test_a_new_clock_enqueues_one_reconcile(
    queue: Queue, async_cache: Redis, cache: "redis.Redis"
) -> None:
    cache.delete(CLOCK)
    assert await complete_pending(queue) == ("reconcile",)
    assert not await check_group(async_cache)
    assert await complete_pending(queue) == ()
