"""The clock key is lost while the server's clock is behind the newest token."""

from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.consistency.reconcile import Reconcile
from statsd.job import SECOND, Priority
from statsd.jobs.attempt import Answer
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import Queue
from tests.support.plain_jobs import BATCHES, KEY, Thing, answer, lease_due, queue_of

pytestmark = pytest.mark.every_redis

CLOCK = keys.CLOCK
HOUR = 3600 * SECOND


@pytest.fixture
async def queue(async_cache: Redis, cache: "redis.Redis") -> Queue:
    """A queue with one cached value; the server's clock was an hour ahead and was corrected."""
    queue = queue_of(async_cache, "one")
    await queue.enqueue([PendingJob(Thing(1))])
    seconds, _ = await async_cache.time()
    ahead = seconds * SECOND + HOUR
    cache.hset(CLOCK, mapping={"last": ahead, "seen": ahead})
    assert (await lease_due(queue)).names == (Reconcile().name,)
    await queue.complete(await lease_due(queue), answer("before"))
    return queue


async def work(queue: Queue, value: object) -> None:
    """Answer all due jobs; as in the daemon, reconciling enqueues the jobs with keys."""
    for _ in range(10):
        attempt = (await queue.lease(BATCHES)).attempt
        if attempt is None:
            return
        answers = {
            "thing:1": Answer({KEY: value}),
            "thing:2": Answer({}),
            "reconcile": Answer({}, [PendingJob(Thing(1))]),
        }
        await queue.complete(attempt, {name: answers[name] for name in attempt.names})
    pytest.fail("the work does not end")


async def test_values_are_written_with_a_newer_as_of(queue: Queue, cache: "redis.Redis") -> None:
    before: Any = cache.get(keys.updated(KEY))
    cache.delete(CLOCK)
    await work(queue, "after")
    assert cache.get(KEY) == b'"after"'
    after: Any = cache.get(keys.updated(KEY))
    assert float(after) > float(before)


async def test_every_job_is_completed(queue: Queue, cache: "redis.Redis") -> None:
    """Also a job that reconciling does not enqueue."""
    await queue.enqueue([PendingJob(Thing(2))])
    cache.delete(CLOCK)
    await work(queue, "after")
    assert await queue.pending(Priority.INTERACTIVE) == 0


async def test_leased_jobs_are_due(queue: Queue, cache: "redis.Redis") -> None:
    """Their leases end by a clock that is an hour ahead."""
    await queue.enqueue([PendingJob(Thing(1))])
    await lease_due(queue)
    cache.delete(CLOCK)
    await work(queue, "after")
    assert cache.get(KEY) == b'"after"'


async def test_a_failure_from_the_former_epoch_leaves_the_new_job(
    queue: Queue, cache: "redis.Redis"
) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    attempt = await queue.renew(await lease_due(queue))
    cache.delete(CLOCK)
    await queue.enqueue([PendingJob(Thing(1))])
    attempts, _ = await queue.fail(attempt, [], {"error": "no"})
    assert attempts == 0
    assert not cache.exists(keys.DEAD_LETTERS)
    await work(queue, "after")
    assert cache.get(KEY) == b'"after"'


async def test_a_delayed_job_is_due_soon(queue: Queue, cache: "redis.Redis") -> None:
    await queue.enqueue([PendingJob(Thing(2), delay=2)])
    cache.delete(CLOCK)
    await queue.enqueue([])  # creates the clock
    delayed: Any = cache.zrange(keys.DELAYED, 0, -1, withscores=True)
    epoch: Any = cache.hget(CLOCK, "epoch")
    [(_, due)] = delayed
    assert 0 < due - int(epoch) <= 3 * SECOND


async def test_a_failed_job_is_due_again(queue: Queue, cache: "redis.Redis") -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    await queue.fail(await lease_due(queue), [5.0], {"error": "no"})
    cache.delete(CLOCK)
    await work(queue, "after")
    assert cache.get(KEY) == b'"after"'
