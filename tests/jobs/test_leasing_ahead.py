"""The urgent worker leases the next due jobs in the step that completes its batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators import Cost
from statsd.job import SECOND, Job, Priority
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.executor import Executor
from statsd.jobs.parts import at_once
from statsd.jobs.pending import PendingJob
from statsd.jobs.provenance import Provenance
from statsd.jobs.queue import LeaseRequest, Queue
from statsd.jobs.wakeup import WakeUp
from statsd.jobs.worker import Worker
from statsd.stream.event_stream import Stream
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


def leased_names(cache: redis.Redis) -> set[Any]:
    return set(cache.hkeys(keys.LEASES))


class Answering:
    """Answers jobs, of which `Thing(1)` enqueues `Other(1)`; records the leases meanwhile."""

    def __init__(self, cache: redis.Redis, then: Callable[[], object] = lambda: None) -> None:
        self._cache = cache
        self._then = then
        self.calls: list[tuple[Sequence[Job], set[Any]]] = []

    async def execute(self, wanted: Sequence[Any], _attempt: Attempt) -> Mapping[Job, Answer]:
        self.calls.append((wanted, leased_names(self._cache)))
        self._then()
        return {
            each: Answer(
                {f"stats:{each.name}": 1}, [PendingJob(Other(1))] if each == Thing(1) else []
            )
            for each in wanted
        }


def urgent_worker(
    queue: Queue, answering: Answering, stopping: Callable[[], bool] = lambda: False
) -> Worker:
    execute = at_once(answering.execute)
    executors = {kind: Executor(execute, Cost(batch)) for kind, batch in BATCHES.batches.items()}
    return Worker(
        queue,
        executors,
        WakeUp(),
        lease=30,
        retry_delays=(60,),
        least=Priority.ORDINARY,
        others=WakeUp(),
        stopping=stopping,
    )


async def test_a_job_enqueued_by_an_answer_is_leased_in_the_same_step(
    queue: Queue, cache: redis.Redis
) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    attempt = await lease_due(queue)
    answers = {"thing:1": Answer({KEY: 1}, [PendingJob(Other(1))])}
    completed, leased = await queue.complete_and_lease(attempt, answers, BATCHES)
    assert statuses(completed) == ["completed"]
    assert leased is not None
    assert leased.attempt is not None
    assert leased.attempt.names == ("other:1",)
    assert leased.attempt.token > attempt.token
    assert leased_names(cache) == {b"other:1"}
    enqueued: Any = cache.hget(keys.job("other:1"), "enqueued")
    assert leased.attempt.token > int(enqueued)
    assert statuses(await queue.complete(leased.attempt, {"other:1": Answer({})})) == ["completed"]
    assert await nothing_due(queue)


async def test_jobs_are_leased_after_a_fenced_answer(
    queue: Queue, async_cache: Redis, cache: redis.Redis
) -> None:
    await queue.enqueue([PendingJob(Thing(1)), PendingJob(Other(1))])
    attempt = await lease_due(queue)
    cache.hset(keys.LEASES, "thing:1", "another")
    completed, leased = await queue.complete_and_lease(attempt, answer(1), BATCHES)
    assert statuses(completed) == ["fenced"]
    assert not cache.exists(KEY)
    assert leased is not None
    assert leased.attempt is not None
    assert leased.attempt.names == ("other:1",)
    assert (await queue_of(async_cache, "two").lease(BATCHES)).attempt is None


async def test_without_due_jobs_the_time_until_the_next_one_is_returned(queue: Queue) -> None:
    await queue.enqueue([PendingJob(Thing(1)), PendingJob(Other(1), delay=600.0)])
    attempt = await lease_due(queue)
    _, leased = await queue.complete_and_lease(attempt, answer(1), LeaseRequest({"thing": 1}))
    assert leased is not None
    assert leased.attempt is None
    assert not leased.more
    assert leased.wait is not None
    assert 300 < leased.wait < 601


async def test_the_worker_continues_with_the_jobs_leased_ahead(
    queue: Queue, cache: redis.Redis
) -> None:
    answering = Answering(cache)
    worker = urgent_worker(queue, answering)
    await queue.enqueue([PendingJob(Thing(1))])
    await worker.step()
    assert leased_names(cache) == {b"other:1"}
    await worker.step()
    assert answering.calls == [([Thing(1)], {b"thing:1"}), ([Other(1)], {b"other:1"})]
    assert not leased_names(cache)
    assert await nothing_due(queue)
    assert cache.exists("stats:thing:1", "stats:other:1") == 2


async def test_jobs_leased_ahead_are_released_when_a_server_is_lost(
    queue: Queue, async_cache: Redis, cache: redis.Redis
) -> None:
    worker = urgent_worker(queue, Answering(cache))
    await queue.enqueue([PendingJob(Thing(1))])
    await worker.step()
    assert leased_names(cache) == {b"other:1"}
    await worker.recover()
    assert not leased_names(cache)
    assert (await lease_due(queue_of(async_cache, "two"))).names == ("other:1",)


async def test_no_job_is_leased_ahead_while_jobs_of_the_batch_are_left(
    queue: Queue, cache: redis.Redis
) -> None:
    """The first answer is stale: it is refused, and the batch is bisected."""
    clock = keys.CLOCK
    hours = iter([3600])

    def lose_an_hour() -> None:
        newest: Any = cache.hget(clock, "last")
        cache.hset(clock, "last", int(newest) + next(hours, 0) * SECOND)

    answering = Answering(cache, lose_an_hour)
    worker = urgent_worker(queue, answering)
    await queue.enqueue([PendingJob(Thing(2)), PendingJob(Thing(3)), PendingJob(Other(1))])
    await worker.step()
    assert leased_names(cache) == {b"other:1"}
    await worker.step()
    assert answering.calls == [
        ([Thing(2), Thing(3)], {b"thing:2", b"thing:3"}),
        ([Thing(2)], {b"thing:2", b"thing:3"}),
        ([Thing(3)], {b"thing:3"}),
        ([Other(1)], {b"other:1"}),
    ]
    assert cache.exists("stats:thing:2", "stats:thing:3", "stats:other:1") == 3
    assert not leased_names(cache)


async def test_no_job_is_leased_ahead_after_a_stale_answer(
    queue: Queue, cache: redis.Redis
) -> None:
    await queue.enqueue([PendingJob(Thing(1)), PendingJob(Other(1))])
    attempt = await lease_due(queue)
    old = replace(attempt, token=attempt.token - 3600 * SECOND)
    completed, leased = await queue.complete_and_lease(old, answer(1), BATCHES)
    assert statuses(completed) == ["stale"]
    assert leased is None
    assert leased_names(cache) == {b"thing:1"}


async def test_a_stopping_worker_leases_no_job_ahead(queue: Queue, cache: redis.Redis) -> None:
    worker = urgent_worker(queue, Answering(cache), stopping=lambda: True)
    await queue.enqueue([PendingJob(Thing(1))])
    await worker.step()
    assert cache.exists("stats:thing:1")
    assert not leased_names(cache)


async def test_a_delayed_job_does_not_get_the_provenance_of_the_answer_before(
    queue: Queue, async_cache: Redis, cache: redis.Redis
) -> None:
    """The job is enqueued in the step that writes the answer."""
    stream = Stream(async_cache, async_cache, "one", block=0.05, dead_limit=3)
    await queue.enqueue([PendingJob(Other(1), delay=60.0)])
    await stream.accept([], {PendingJob(Thing(1)): Provenance(1, "1-0", "tested")}, [])
    attempt = await lease_due(queue)
    assert attempt.events
    delayed: Any = cache.zrange(keys.DELAYED, 0, -1)
    cache.zadd(keys.DELAYED, dict.fromkeys(delayed, 1))
    [completed], leased = await queue.complete_and_lease(attempt, answer(1), BATCHES)
    assert completed.waited is not None
    assert leased is not None
    assert leased.attempt is not None
    assert leased.attempt.names == ("other:1",)
    assert not leased.attempt.events
