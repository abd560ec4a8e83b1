"""The check of group and server enqueues a reconcile in the step that detects a loss."""

import pytest
import redis
import sqlalchemy as sa
from redis.asyncio import Redis

from statsd import keys
from statsd.jobs.attempt import Answer
from statsd.jobs.queue import LeaseRequest, Queue
from statsd.jobs.wakeup import WakeUp
from statsd.servers import database as database_module
from statsd.servers.database import Database
from statsd.stream.consumer import Consumer
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


# --- the history of the database


@pytest.fixture
async def consumer(queue: Queue, async_cache: Redis, snapshots: Database) -> Consumer:
    """A consumer after its first check."""
    stream = Stream(async_cache, async_cache, "one", block=0.05, dead_limit=10)
    consumer = Consumer(stream, queue, snapshots, WakeUp(), batch_size=10)
    await consumer.recover()
    assert await complete_pending(queue) == ()
    return consumer


async def test_the_same_history_enqueues_nothing(consumer: Consumer, queue: Queue) -> None:
    await consumer.recover()
    assert await complete_pending(queue) == ()


async def test_another_history_enqueues_a_reconcile_once(
    consumer: Consumer, queue: Queue, cache: "redis.Redis"
) -> None:
    """Also for a daemon that starts after the failover."""
    cache.hset(CLOCK, "history", "7000000000000000000/00000001")
    await consumer.recover()
    assert await complete_pending(queue) == ("reconcile",)
    await consumer.recover()
    assert await complete_pending(queue) == ()


async def test_a_history_that_is_not_told_is_a_warning_once(
    consumer: Consumer,
    queue: Queue,
    cache: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = cache.hget(CLOCK, "history")
    monkeypatch.setattr(database_module, "_HISTORY", sa.text("SELECT no_such_function()"))
    for _ in range(2):
        await consumer.recover()
    assert await complete_pending(queue) == ()
    assert [text for text in caplog.messages if "does not tell its history" in text] == [
        "PostgreSQL does not tell its history; a failover is not noticed by it"
    ]
    assert cache.hget(CLOCK, "history") == known
