"""What a look at the server finds is owed in the step that finds it."""

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.jobs.queue import Answer, LeaseRequest, Queue
from statsd.stream.event_stream import Stream

CLOCK = keys.CLOCK


@pytest.fixture
async def queue(async_cache: Redis) -> Queue:
    """Marks after a daemon's first look, all of them answered."""
    queue = Queue(async_cache, "one", lease=30, dead_limit=10)
    await a_look(async_cache)
    assert await pending(queue) == ("reconcile",)
    return queue


async def a_look(cache: Redis) -> bool:
    """Look as a daemon does that has just started."""
    return await Stream(cache, cache, "one", block=0.05, dead_limit=10).ensure_group()


async def pending(queue: Queue) -> tuple[str, ...]:
    """Return what is owed, and answer it."""
    attempt = (await queue.lease(LeaseRequest({"reconcile": 1}))).attempt
    if attempt is None:
        return ()
    await queue.complete(attempt, dict.fromkeys(attempt.names, Answer({})))
    return attempt.names


async def test_a_second_look_finds_nothing(queue: Queue, async_cache: Redis) -> None:
    assert not await a_look(async_cache)
    assert await pending(queue) == ()


async def test_a_group_that_had_to_be_made_enqueues_everything(
    queue: Queue, async_cache: Redis, cache: "redis.Redis"
) -> None:
    cache.xgroup_destroy(keys.STREAM, keys.GROUP)
    assert await a_look(async_cache)
    assert await pending(queue) == ("reconcile",)


async def test_data_last_seen_on_another_run_enqueues_everything(
    queue: Queue, async_cache: Redis, cache: "redis.Redis"
) -> None:
    """Also to a daemon that was not there when the server was restarted."""
    cache.hset(CLOCK, "run", "another")
    assert await a_look(async_cache)
    assert await pending(queue) == ("reconcile",)
    assert not await a_look(async_cache)
    assert await pending(queue) == ()


async def test_a_clock_that_was_made_anew_enqueues_everything_once(
    queue: Queue, async_cache: Redis, cache: "redis.Redis"
) -> None:
    cache.delete(CLOCK)
    assert await pending(queue) == ("reconcile",)
    assert not await a_look(async_cache)
    assert await pending(queue) == ()
