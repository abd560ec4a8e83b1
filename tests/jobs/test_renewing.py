"""Leases are renewed until the work ends, and not after it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators import Cost
from statsd.job import SECOND, Priority
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.executor import Executor
from statsd.jobs.parts import at_once
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import Queue
from statsd.jobs.wakeup import WakeUp
from statsd.jobs.worker import Worker
from tests.support.plain_jobs import KEY, Thing, nothing_due, queue_of
from tests.support.processes import DEADLINE

LEASE = 600.0  # seconds
RENEWED_AS_IF = 0.3  # seconds: the worker renews as often as for leases of this length
CLOCK = keys.CLOCK


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(0.01)


def worker_of(queue: Queue, work: Callable[[], Awaitable[object]]) -> Worker:
    async def execute(wanted: Sequence[Any], _attempt: Attempt) -> Mapping[Any, Answer]:
        await work()
        return {each: Answer({KEY: 1}) for each in wanted}

    executors = {Thing.kind: Executor(at_once(execute), Cost(batch=1))}
    return Worker(queue, executors, WakeUp(), lease=RENEWED_AS_IF, retry_delays=(60,))


def renewals() -> list["asyncio.Task[Any]"]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "renew leases"]


async def test_the_lease_is_renewed_during_long_work(
    queue: Queue, async_cache: Redis, cache: redis.Redis
) -> None:
    own, other = queue_of(async_cache, "own", lease=LEASE), queue_of(async_cache, "other")

    def due() -> float:
        found: Any = cache.zscore(keys.due(Priority.INTERACTIVE), "thing:1")
        return float(found)

    async def work() -> None:
        for _ in range(2):  # longer than the first lease
            renewed = due() + LEASE / 2 * SECOND
            cache.hincrby(CLOCK, "offset", int(LEASE * 2 / 3 * SECOND))  # time goes on
            await eventually(lambda renewed=renewed: due() > renewed)  # type: ignore[misc]
            assert await nothing_due(other)

    await queue.enqueue([PendingJob(Thing(1))])
    await worker_of(own, work).step()
    assert cache.exists(KEY)
    assert not cache.exists(keys.LEASES)
    assert await nothing_due(other)
    assert not renewals()


async def test_a_failed_renewal_leaves_completed_jobs_completed(
    queue: Queue, async_cache: Redis, cache: redis.Redis
) -> None:
    """The failure is raised, so that the worker recovers."""
    aside = f"{keys.LEASES}-aside"

    async def work() -> None:
        cache.rename(keys.LEASES, aside)
        cache.set(keys.LEASES, "no hash")
        cache.config_resetstat()
        await eventually(lambda: "errorstat_WRONGTYPE" in cache.info("errorstats"))
        cache.rename(aside, keys.LEASES)

    await queue.enqueue([PendingJob(Thing(1))])
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await worker_of(queue_of(async_cache, "own", lease=LEASE), work).step()
    assert cache.exists(KEY)
    assert not renewals()
