"""The sweep notices deleted values and evictions, which no event announces."""

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators.dojo_stats import DojoStats
from statsd.consistency.missing_keys import PAGE, Sweep
from statsd.consistency.reconcile import Reconcile
from statsd.dev import embedded
from statsd.jobs.attempt import Answer
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import LeaseRequest, Queue
from tests.support.processes import statuses

pytestmark = pytest.mark.every_redis

BATCHES = LeaseRequest({"reconcile": 1, "dojo_stats": 1000})
DOJOS = 2 * PAGE


def key_of(number: int) -> str:
    return f"stats:dojo:d{number}"


@pytest.fixture
async def queue(async_cache: Redis) -> Queue:
    """A queue with no pending jobs, and more values in the cache than fit into a page."""
    queue = Queue(async_cache, "one", lease=30, dead_limit=10)
    await queue.enqueue([PendingJob(DojoStats(number)) for number in range(DOJOS)])
    while attempt := (await queue.lease(BATCHES)).attempt:
        values = {
            name: Answer({} if name == "reconcile" else {key_of(int(name.split(":")[1])): 1})
            for name in attempt.names
        }
        await queue.complete(attempt, values)
    assert len(await queue.jobs_with_keys()) == DOJOS
    return queue


async def swept(sweep: Sweep, queue: Queue) -> set[str]:
    """Sweep all keys once; return the names of the pending jobs."""
    for _ in range(2 * DOJOS // PAGE + 2):
        await sweep.step()
    attempt = (await queue.lease(BATCHES)).attempt
    return set(attempt.names) if attempt else set()


async def test_nothing_is_enqueued_if_no_key_is_missing(queue: Queue, async_cache: Redis) -> None:
    sweep = Sweep(async_cache, queue, refill=True, interval=0)
    assert await swept(sweep, queue) == set()


async def test_the_job_of_a_missing_value_or_as_of_is_enqueued(
    queue: Queue, async_cache: Redis, cache: "redis.Redis"
) -> None:
    cache.delete(key_of(3), keys.updated(key_of(DOJOS - 1)))
    sweep = Sweep(async_cache, queue, refill=True, interval=0)
    assert await swept(sweep, queue) == {"dojo_stats:3", f"dojo_stats:{DOJOS - 1}"}


async def test_keys_of_another_type_are_enqueued_and_overwritten(
    queue: Queue, async_cache: Redis, cache: "redis.Redis"
) -> None:
    """A job with an as-of in the future can be completed, too."""
    for key in (key_of(3), keys.updated(key_of(4))):
        cache.delete(key)
        cache.rpush(key, "a list")
    cache.mset({keys.updated(key_of(5)): "1e999", keys.updated(key_of(6)): "nan"})
    sweep = Sweep(async_cache, queue, refill=True, interval=0)
    for _ in range(2 * DOJOS // PAGE + 2):
        await sweep.step()
    attempt = (await queue.lease(BATCHES)).attempt
    assert attempt is not None
    assert set(attempt.names) == {"dojo_stats:3", "dojo_stats:4"}
    await queue.enqueue([PendingJob(DojoStats(5)), PendingJob(DojoStats(6))])
    while attempt is not None:
        answers = {name: Answer({key_of(int(name.split(":")[1])): 2}) for name in attempt.names}
        assert set(statuses(await queue.complete(attempt, answers))) == {"completed"}
        attempt = (await queue.lease(BATCHES)).attempt
    assert cache.mget(*map(key_of, (3, 4, 5, 6))) == [b"2"] * 4


async def test_without_a_cold_start_absent_values_stay_absent(
    queue: Queue, async_cache: Redis, cache: "redis.Redis"
) -> None:
    cache.delete(key_of(3))
    sweep = Sweep(async_cache, queue, refill=False, interval=0)
    assert await swept(sweep, queue) == set()


async def test_evictions_lead_to_a_reconciliation(redis_server: embedded.Redis) -> None:
    """The evicted key may have been a pending job, and the cache has no other trace of the job."""
    with embedded.redis(binary=redis_server.binary) as server:
        async with Redis.from_url(server.url, protocol=2) as client:
            queue = Queue(client, "one", lease=30, dead_limit=10)
            await queue.enqueue([])
            reconciling = (await queue.lease(BATCHES)).attempt
            assert reconciling is not None
            await queue.complete(reconciling, {Reconcile().name: Answer({})})
            sweep = Sweep(client, queue, refill=True, interval=0)
            assert await swept(sweep, queue) == set()
            await client.mset({f"other:{number}": "x" * 10_000 for number in range(200)})
            await client.config_set("maxmemory-policy", "allkeys-random")
            await client.config_set("maxmemory", "2mb")
            await client.set("other", "y" * 10_000)
            await client.config_set("maxmemory", 0)
            assert (await client.info("stats"))["evicted_keys"] > 0
            assert await swept(sweep, queue) == {Reconcile().name}
