"""The order of jobs by class with priority aging; cooldowns; unchanged values."""

from dataclasses import replace
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.job import SECOND, Priority
from statsd.jobs.attempt import Answer
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import LeaseRequest, Queue
from tests.support.plain_jobs import (
    BATCHES,
    KEY,
    Other,
    Thing,
    answer,
    lease_due,
    nothing_due,
    queue_of,
)
from tests.support.processes import statuses

pytestmark = pytest.mark.every_redis

AGED = [  # by class, seconds after which a job comes before new interactive ones
    (Priority.ORDINARY, 1),
    (Priority.EXPORT, 10),
    (Priority.BACKGROUND, 60),
    (Priority.IDLE, 300),
]


def age(cache: redis.Redis, priority: Priority, name: str, seconds: float) -> None:
    """Let a job have been due for `seconds`."""
    cache.zincrby(keys.due(priority), -seconds * SECOND, name)


def test_every_class_but_the_first_ages() -> None:
    assert {Priority.MISSED, Priority.INTERACTIVE, *(each for each, _ in AGED)} == set(Priority)


@pytest.mark.parametrize(("priority", "seconds"), AGED)
async def test_old_jobs_come_before_newer_jobs_of_more_urgent_classes(
    queue: Queue, cache: redis.Redis, priority: Priority, seconds: float
) -> None:
    await queue.enqueue(
        [PendingJob(Other(1), priority=priority), PendingJob(Thing(1)), PendingJob(Thing(2))]
    )
    age(cache, priority, "other:1", seconds - 0.5)
    first = await queue.lease(LeaseRequest({"thing": 1}))
    assert first.attempt is not None
    assert first.attempt.names == ("thing:1",)
    age(cache, priority, "other:1", 1.0)
    assert (await lease_due(queue)).names == ("other:1",)
    assert (await lease_due(queue)).names == ("thing:2",)


async def test_a_job_that_a_page_waits_for_comes_first(queue: Queue, cache: redis.Redis) -> None:
    await queue.enqueue([PendingJob(Other(1)), PendingJob(Thing(1), priority=Priority.MISSED)])
    age(cache, Priority.INTERACTIVE, "other:1", 3600)
    assert (await lease_due(queue)).names == ("thing:1",)


async def test_the_urgent_worker_leases_without_priority_aging(
    queue: Queue, cache: redis.Redis
) -> None:
    await queue.enqueue([PendingJob(Other(1), priority=Priority.ORDINARY), PendingJob(Thing(1))])
    age(cache, Priority.ORDINARY, "other:1", 3600)
    leased = await queue.lease(replace(BATCHES, strict=True))
    assert leased.attempt is not None
    assert leased.attempt.names == ("thing:1",)


async def test_an_attempt_has_the_time_for_which_its_oldest_job_was_due(
    queue: Queue, cache: redis.Redis
) -> None:
    await queue.enqueue([PendingJob(Thing(1)), PendingJob(Thing(2))])
    age(cache, Priority.INTERACTIVE, "thing:2", 600)
    assert 600 <= (await lease_due(queue)).queued < 1200


async def test_a_job_in_its_cooldown_is_due_only_if_a_page_waits_for_it(queue: Queue) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    await queue.complete(await lease_due(queue), answer(1), cooldown=60.0)
    await queue.enqueue([PendingJob(Thing(1))])
    assert await nothing_due(queue)
    await queue.enqueue([PendingJob(Thing(1), priority=Priority.MISSED)])
    assert (await lease_due(queue)).names == ("thing:1",)


async def test_an_unchanged_value_is_not_written_again_and_its_as_of_moves(
    queue: Queue, cache: redis.Redis
) -> None:
    values = {KEY: {"solves": 5}, "stats:thing:2": "second"}
    written = []
    for each in (values, values, values | {KEY: {"solves": 6}}, values | {KEY: {"solves": 7}}):
        await queue.enqueue([PendingJob(Thing(1))])
        attempt = await lease_due(queue)
        before = cache.info("commandstats").get("cmdstat_set", {"calls": 0})["calls"]
        [completed] = await queue.complete(attempt, {"thing:1": Answer(each)})
        after = cache.info("commandstats")["cmdstat_set"]["calls"]
        assert completed.status == "completed"
        written.append((after - before, completed.unchanged))
        as_of = f"{attempt.token // SECOND}.{attempt.token % SECOND:06d}".encode()
        assert cache.get(keys.updated(KEY)) == cache.get("stats:thing:2:updated") == as_of
    assert written == [(4, 0), (2, 2), (3, 1), (3, 1)]
    assert cache.get(KEY) == b'{"solves":7}'


async def test_a_key_of_another_type_is_overwritten(queue: Queue, cache: redis.Redis) -> None:
    cache.rpush(KEY, "no", "value")
    await queue.enqueue([PendingJob(Thing(1))])
    assert statuses(await queue.complete(await lease_due(queue), answer(1))) == ["completed"]
    assert cache.get(KEY) == b"1"


async def test_shed_kinds_wait_unless_a_page_waits(queue: Queue, cache: redis.Redis) -> None:
    await queue.enqueue([PendingJob(Other(1)), PendingJob(Thing(1), priority=Priority.BACKGROUND)])
    age(cache, Priority.INTERACTIVE, "other:1", 3600)
    leased = await queue.lease(replace(BATCHES, shed=["other"]))
    assert leased.attempt is not None
    assert leased.attempt.names == ("thing:1",)
    assert (await queue.lease(replace(BATCHES, shed=["other"]))).attempt is None
    await queue.enqueue([PendingJob(Other(1), priority=Priority.MISSED)])
    missed = await queue.lease(replace(BATCHES, shed=["other"]))
    assert missed.attempt is not None
    assert missed.attempt.names == ("other:1",)


async def test_a_batch_may_have_thousands_of_jobs(
    queue: Queue, cache: redis.Redis, async_cache: Redis
) -> None:
    """More than one Redis command reads, leases or renews."""
    await queue.enqueue([PendingJob(Thing(number)) for number in range(2500)])
    await queue.enqueue([PendingJob(Other(1))])
    many = LeaseRequest({"reconcile": 1, "thing": 2200})
    first = await queue.lease(many)
    assert first.attempt is not None
    assert first.attempt.names == tuple(f"thing:{number}" for number in range(2200))
    assert first.more
    second = await queue_of(async_cache, "two").lease(many)
    assert second.attempt is not None
    assert second.attempt.names == tuple(f"thing:{number}" for number in range(2200, 2500))
    assert cache.hlen(keys.LEASES) == 2500
    for number in (0, 999, 1000, 2199):
        cache.zadd(keys.due(Priority.INTERACTIVE), {f"thing:{number}": 0})
    cache.hset(keys.LEASES, "thing:1000", "another")
    await queue.renew(first.attempt)
    assert (await lease_due(queue)).names == ("thing:1000",)
    assert (await lease_due(queue)).names == ("other:1",)
    assert await nothing_due(queue)


async def test_delayed_jobs_become_due_in_steps(queue: Queue, cache: redis.Redis) -> None:
    number = 500
    await queue.enqueue([PendingJob(Thing(each), delay=3600) for each in range(number)])
    entries: Any = cache.zrange(keys.DELAYED, 0, -1)
    cache.zadd(keys.DELAYED, dict.fromkeys(entries, 1))  # an hour later
    nothing = LeaseRequest({})
    steps = [(await queue.lease(nothing)).more for _ in range(3)]
    assert steps == [True, True, False]
    assert cache.zcard(keys.due(Priority.INTERACTIVE)) == number
    assert not cache.exists(keys.DELAYED)
