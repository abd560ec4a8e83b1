"""A job knows which challenges' solves have changed, unless anything else may have."""

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.job import Priority
from statsd.jobs.attempt import Answer
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import Queue
from tests.support.plain_jobs import BATCHES, Thing, answer, lease_due, reconciled_queue
from tests.support.processes import statuses

pytestmark = pytest.mark.every_redis

NAME = Thing(1).name
ANYTHING = PendingJob(Thing(1))


def solved(challenge: int) -> PendingJob:
    return PendingJob(Thing(1), changed=challenge)


@pytest.fixture
async def queue(async_cache: Redis) -> Queue:
    return await reconciled_queue(async_cache, "one")


@pytest.mark.parametrize(
    ("enqueued", "changed"),
    [
        ([solved(5)], {NAME: (5,)}),
        ([solved(5), solved(-7)], {NAME: (5, -7)}),
        ([solved(5), ANYTHING], {}),
        ([ANYTHING, solved(5)], {}),
        ([solved(5), ANYTHING, solved(6)], {}),
        ([*map(solved, range(1000, 1200))], {}),
    ],
)
async def test_anything_may_have_changed_if_one_of_the_causes_says_so(
    queue: Queue, enqueued: list[PendingJob], changed: dict[str, tuple[int, ...]]
) -> None:
    for each in enqueued:
        await queue.enqueue([each])
    assert (await lease_due(queue)).changed == changed


async def test_what_changes_while_a_job_is_leased_is_known_to_the_next_lease(queue: Queue) -> None:
    await queue.enqueue([solved(5)])
    attempt = await lease_due(queue)
    await queue.enqueue([solved(6)])
    assert statuses(await queue.complete(attempt, answer(1))) == ["requeued"]
    attempt = await lease_due(queue)
    assert 6 in attempt.changed[NAME]
    await queue.enqueue([ANYTHING])
    assert statuses(await queue.complete(attempt, answer(2))) == ["requeued"]
    attempt = await lease_due(queue)
    assert attempt.changed == {}
    assert statuses(await queue.complete(attempt, answer(3))) == ["completed"]
    await queue.enqueue([solved(7)])
    assert (await lease_due(queue)).changed == {NAME: (7,)}


async def test_a_renewed_attempt_is_for_anything(queue: Queue) -> None:
    """Its token is newer than what may have been enqueued since the lease."""
    await queue.enqueue([solved(5)])
    attempt = await lease_due(queue)
    await queue.enqueue([ANYTHING])
    attempt = await queue.renew(attempt)
    assert attempt.changed == {}
    assert statuses(await queue.complete(attempt, {NAME: Answer({})})) == ["completed"]


async def test_where_the_hash_of_a_job_was_evicted_anything_may_have_changed(
    queue: Queue, cache: "redis.Redis"
) -> None:
    await queue.enqueue([solved(5)])
    cache.delete(f"{keys.INTERNAL}job:{NAME}")
    await queue.enqueue([solved(6)])
    assert (await lease_due(queue)).changed == {}


async def test_an_answer_that_is_refused_for_an_evicted_hash_is_given_again(
    queue: Queue, cache: "redis.Redis"
) -> None:
    await queue.enqueue([ANYTHING])
    attempt = await lease_due(queue)
    cache.delete(f"{keys.INTERNAL}job:{NAME}")
    await queue.enqueue([solved(6)])
    assert statuses(await queue.complete(attempt, answer(1))) == ["fenced"]
    assert (await lease_due(queue)).changed == {}


@pytest.mark.parametrize("first", [Priority.MISSED, Priority.IDLE])
async def test_a_job_whose_hash_was_evicted_is_done_for_anything_in_whatever_class_it_was(
    queue: Queue, cache: "redis.Redis", first: Priority
) -> None:
    await queue.enqueue([ANYTHING._replace(priority=first)])
    cache.delete(f"{keys.INTERNAL}job:{NAME}")
    await queue.enqueue([solved(6)])
    changed = []
    while attempt := (await queue.lease(BATCHES)).attempt:
        changed.append(attempt.changed)
        assert statuses(await queue.complete(attempt, answer(1))) == ["completed"]
    assert {} in changed
    assert not any(cache.exists(keys.due(each)) for each in Priority)
