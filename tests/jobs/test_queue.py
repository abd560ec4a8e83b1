"""Jobs are enqueued, leased, completed, released and buried; older values do not win."""

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


async def test_a_new_clock_enqueues_a_reconciliation(async_cache: Redis) -> None:
    queue = queue_of(async_cache, "one")
    leased = await queue.lease(BATCHES)
    assert leased.attempt is not None
    assert leased.attempt.names == ("reconcile",)


async def test_equal_jobs_are_one_job(queue: Queue) -> None:
    await queue.enqueue([PendingJob(Thing(1)), PendingJob(Thing(1))])
    await queue.enqueue([PendingJob(Thing(1))])
    attempt = await lease_due(queue)
    assert attempt.names == ("thing:1",)
    assert statuses(await queue.complete(attempt, answer(5))) == ["completed"]
    assert await nothing_due(queue)


async def test_value_and_as_of_are_written_in_one_step(queue: Queue, cache: redis.Redis) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    attempt = await lease_due(queue)
    await queue.complete(attempt, answer({"solves": 5, "name": "ü\n"}))
    assert cache.get(KEY) == '{"solves":5,"name":"ü\\n"}'.encode()
    as_of = cache.get(keys.updated(KEY))
    assert as_of == f"{attempt.token // SECOND}.{attempt.token % SECOND:06d}".encode()


async def test_a_leased_job_is_not_leased_by_another_worker(
    queue: Queue, async_cache: Redis
) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    await lease_due(queue)
    assert await nothing_due(queue_of(async_cache, "two"))


async def test_a_job_whose_lease_expired_is_leased_by_another_worker(
    async_cache: Redis, queue: Queue
) -> None:
    hasty = queue_of(async_cache, "hasty", lease=0)
    await queue.enqueue([PendingJob(Thing(1))])
    older = await lease_due(hasty)
    newer = await lease_due(queue)
    assert newer.names == older.names
    assert newer.token > older.token
    assert statuses(await queue.complete(newer, answer("newer"))) == ["completed"]
    assert statuses(await hasty.complete(older, answer("older"))) == ["fenced"]
    assert await async_cache.get(KEY) == b'"newer"'


async def test_a_job_enqueued_meanwhile_is_requeued_and_runs_again(
    queue: Queue, cache: redis.Redis
) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    first = await lease_due(queue)
    await queue.enqueue([PendingJob(Thing(1))])
    assert statuses(await queue.complete(first, answer(1))) == ["requeued"]
    assert cache.get(KEY) == b"1"
    second = await lease_due(queue)
    assert second.token > first.token
    assert statuses(await queue.complete(second, answer(2))) == ["completed"]
    assert cache.get(KEY) == b"2"


async def test_an_older_value_never_replaces_a_newer_one(queue: Queue, cache: redis.Redis) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    attempt = await lease_due(queue)
    newer = f"{(attempt.token + 1) / SECOND:.6f}"
    cache.mset({KEY: '"newer"', keys.updated(KEY): newer})
    assert statuses(await queue.complete(attempt, answer("older"))) == ["completed"]
    assert cache.get(KEY) == b'"newer"'
    assert cache.get(keys.updated(KEY)) == newer.encode()


async def test_an_answer_over_a_minute_old_is_refused_and_stays_pending(
    queue: Queue, cache: redis.Redis
) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    attempt = await lease_due(queue)
    stale = replace(attempt, token=attempt.token - 61 * SECOND)
    assert statuses(await queue.complete(stale, answer(1))) == ["stale"]
    assert not cache.exists(KEY)
    # The job is still leased, so the worker can try again with a smaller batch.
    assert statuses(await queue.complete(await queue.renew(attempt), answer(2))) == ["completed"]


async def test_an_answer_from_before_the_clock_was_lost_is_refused(
    queue: Queue, cache: redis.Redis
) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    attempt = await lease_due(queue)
    cache.flushall()
    assert statuses(await queue.complete(attempt, answer(1))) == ["fenced"]
    assert not cache.exists(KEY)
    assert (await lease_due(queue)).names == ("reconcile",)


async def test_tokens_never_go_back_when_the_clock_does(queue: Queue, cache: redis.Redis) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    first = await lease_due(queue)
    ahead = first.token + 3600 * SECOND
    cache.hset(keys.CLOCK, mapping={"last": ahead, "seen": ahead})
    renewed = await queue.renew(first)
    newest = await queue.renew(first)
    assert ahead < renewed.token < newest.token


async def test_due_jobs_stay_due_when_the_clock_is_set_back(
    queue: Queue, cache: redis.Redis
) -> None:
    """The server's clock was an hour ahead when the job was enqueued."""
    clock = keys.CLOCK
    seconds, _ = cache.time()
    ahead = (seconds + 3600) * SECOND
    await queue.enqueue([PendingJob(Thing(1))])
    cache.zadd(f"{keys.INTERNAL}due:1", {"thing:1": ahead})
    cache.hset(clock, mapping={"last": ahead, "seen": ahead})
    assert (await lease_due(queue)).names == ("thing:1",)


async def test_a_job_without_values_removes_the_keys_it_wrote(
    queue: Queue, cache: redis.Redis
) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    await queue.complete(await lease_due(queue), answer(1))
    assert await queue.jobs_with_keys() == ["thing:1"]
    await queue.enqueue([PendingJob(Thing(1))])
    assert statuses(await queue.complete(await lease_due(queue), {"thing:1": Answer({})})) == [
        "completed"
    ]
    assert not cache.exists(KEY, keys.updated(KEY))
    assert await queue.jobs_with_keys() == []


async def test_a_key_under_a_former_name_is_removed(queue: Queue, cache: redis.Redis) -> None:
    for key in ("stats:thing:old", "stats:thing:new"):
        await queue.enqueue([PendingJob(Thing(1))])
        await queue.complete(await lease_due(queue), answer(1, key))
    assert cache.exists("stats:thing:new", "stats:thing:new:updated") == 2
    assert not cache.exists("stats:thing:old", "stats:thing:old:updated")


async def test_a_key_that_another_job_took_over_stays(queue: Queue, cache: redis.Redis) -> None:
    for thing in (1, 2):
        await queue.enqueue([PendingJob(Thing(thing))])
        await queue.complete(await lease_due(queue), {Thing(thing).name: Answer({KEY: thing})})
    await queue.enqueue([PendingJob(Thing(1))])
    await queue.complete(await lease_due(queue), {"thing:1": Answer({})})
    assert cache.get(KEY) == b"2"


async def test_a_delayed_job_waits_and_survives_an_earlier_answer(
    queue: Queue, cache: redis.Redis
) -> None:
    await queue.enqueue([PendingJob(Thing(1)), PendingJob(Thing(1), delay=3600)])
    assert statuses(await queue.complete(await lease_due(queue), answer(1))) == ["completed"]
    leased = await queue.lease(BATCHES)
    assert leased.attempt is None
    assert leased.wait is not None
    assert 3000 < leased.wait < 3602
    delayed: Any = cache.zrange(keys.DELAYED, 0, 0)
    [entry] = delayed
    cache.zadd(keys.DELAYED, {entry: 1})  # an hour later
    assert (await lease_due(queue)).names == ("thing:1",)


async def test_the_more_urgent_class_comes_first(queue: Queue) -> None:
    await queue.enqueue([PendingJob(Thing(1), priority=Priority.BACKGROUND)])
    await queue.enqueue([PendingJob(Other(2), priority=Priority.ORDINARY)])
    assert (await lease_due(queue)).names == ("other:2",)
    assert (await lease_due(queue)).names == ("thing:1",)


async def test_a_job_moves_to_a_more_urgent_class_and_never_to_a_less_urgent_one(
    queue: Queue,
) -> None:
    await queue.enqueue([PendingJob(Thing(1), priority=Priority.BACKGROUND)])
    await queue.enqueue([PendingJob(Thing(1), priority=Priority.INTERACTIVE)])
    await queue.enqueue([PendingJob(Thing(1), priority=Priority.EXPORT)])
    assert await queue.pending(Priority.INTERACTIVE) == 1
    assert await queue.pending(Priority.BACKGROUND) == 0
    await queue.complete(await lease_due(queue), answer(1))
    assert await nothing_due(queue)


async def test_a_job_of_a_cold_start_keeps_its_class_for_exports(queue: Queue) -> None:
    """Exports wait for the end of the cold start, which will answer this job."""
    await queue.enqueue([PendingJob(Thing(1), priority=Priority.BACKGROUND)])
    await queue.enqueue([PendingJob(Thing(1), priority=Priority.EXPORT)])
    assert await queue.pending(Priority.BACKGROUND) == 1
    assert await queue.pending(Priority.EXPORT) == 0
    await queue.enqueue([PendingJob(Thing(1), priority=Priority.ORDINARY)])
    assert await queue.pending(Priority.BACKGROUND) == 0
    assert await queue.pending(Priority.ORDINARY) == 1


async def test_a_batch_is_of_one_kind_in_the_order_of_enqueueing(queue: Queue) -> None:
    await queue.enqueue(
        [PendingJob(Thing(9)), PendingJob(Other(1)), PendingJob(Thing(1)), PendingJob(Thing(5))]
    )
    leased = await queue.lease(LeaseRequest({"thing": 2, "other": 1}))
    assert leased.attempt is not None
    assert leased.attempt.names == ("thing:9", "thing:1")
    assert leased.more
    assert (await lease_due(queue)).names == ("other:1",)
    assert (await lease_due(queue)).names == ("thing:5",)


async def test_a_failed_job_is_delayed_and_finally_buried(queue: Queue, cache: redis.Redis) -> None:
    reason = {"error": "ValueError: no", "traceback": "Traceback ..."}
    await queue.enqueue([PendingJob(Thing(1))])
    attempt = await lease_due(queue)
    assert await queue.fail(attempt, [60.0], reason) == (1, 60.0)
    assert await nothing_due(queue)
    cache.zadd(f"{keys.INTERNAL}due:1", {"thing:1": 1})  # a minute later
    attempt = await lease_due(queue)
    assert await queue.fail(attempt, [60.0], reason) == (2, None)
    assert await nothing_due(queue)
    letters: Any = cache.xrange(keys.DEAD_LETTERS)
    [(_, letter)] = letters
    assert letter[b"name"] == b"thing:1"
    assert letter[b"error"] == b"ValueError: no"
    assert letter[b"traceback"] == b"Traceback ..."
    assert letter[b"attempts"] == b"2"
    assert letter[b"consumer"] == b"one"
    assert letter[b"failed_at"]


async def test_a_job_enqueued_during_its_last_attempt_stays_after_the_burial(
    queue: Queue, cache: redis.Redis
) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    attempt = await lease_due(queue)
    await queue.enqueue([PendingJob(Thing(1))])
    assert await queue.fail(attempt, [], {"error": "no"}) == (1, None)
    assert cache.xlen(keys.DEAD_LETTERS) == 1
    assert (await lease_due(queue)).names == ("thing:1",)


async def test_only_the_newest_dead_letters_are_kept(queue: Queue, cache: redis.Redis) -> None:
    for number in range(5):
        await queue.enqueue([PendingJob(Thing(number))])
        await queue.fail(await lease_due(queue), [], {"error": str(number)})
    letters: Any = cache.xrange(keys.DEAD_LETTERS)
    assert [letter[b"error"] for _, letter in letters] == [b"2", b"3", b"4"]


async def test_only_their_owner_releases_leases(queue: Queue, async_cache: Redis) -> None:
    two = queue_of(async_cache, "two")
    await queue.enqueue([PendingJob(Thing(1)), PendingJob(Other(2))])
    await lease_due(queue)
    assert (await lease_due(two)).names == ("other:2",)
    assert await two.release() == 1
    assert (await lease_due(queue)).names == ("other:2",)
    assert await two.release() == 0
    assert await queue.release(["thing:1"]) == 1
    assert (await lease_due(two)).names == ("thing:1",)


async def test_a_renewed_lease_lasts_and_its_token_is_newer(
    queue: Queue, async_cache: Redis
) -> None:
    hasty = queue_of(async_cache, "hasty", lease=0)
    await queue.enqueue([PendingJob(Thing(1))])
    attempt = await lease_due(hasty)
    renewed = await queue.renew(attempt)  # with the longer lease of `queue`
    assert renewed.token > attempt.token
    assert await nothing_due(queue)
    assert statuses(await hasty.complete(renewed, answer(1))) == ["completed"]


async def test_a_job_whose_hash_was_evicted_is_completed(queue: Queue, cache: redis.Redis) -> None:
    """Redis may evict any key, also the hash with a job's class and token."""
    await queue.enqueue([PendingJob(Thing(1))])
    cache.delete(f"{keys.JOB}thing:1")
    assert statuses(await queue.complete(await lease_due(queue), answer(1))) == ["completed"]
    assert await nothing_due(queue)


async def test_jobs_of_an_unknown_kind_are_left_to_a_newer_daemon(
    queue: Queue, async_cache: Redis
) -> None:
    await queue.enqueue([PendingJob(Other(1)), PendingJob(Thing(1), priority=Priority.BACKGROUND)])
    older = queue_of(async_cache, "older")
    leased = await older.lease(LeaseRequest({"thing": 10}))
    assert leased.attempt is not None
    assert leased.attempt.names == ("thing:1",)
    await older.complete(leased.attempt, answer(1))
    assert await older.lease(LeaseRequest({"thing": 10})) == (None, False, None)
    newer = await queue.lease(LeaseRequest({"thing": 10, "other": 10}))
    assert newer.attempt is not None
    assert newer.attempt.names == ("other:1",)


async def test_enqueueing_a_failed_job_again_keeps_its_delay(
    queue: Queue, cache: redis.Redis
) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    await queue.fail(await lease_due(queue), [60.0], {"error": "no"})
    await queue.enqueue([PendingJob(Thing(1))])
    assert await nothing_due(queue)
    cache.hdel(f"{keys.JOB}thing:1", "retry_at")  # a minute later
    await queue.enqueue([PendingJob(Thing(1))])
    await queue.complete(await lease_due(queue), answer(1))
    await queue.enqueue([PendingJob(Thing(1))])
    assert (await lease_due(queue)).names == ("thing:1",)


async def test_with_unlimited_attempts_the_last_delay_is_repeated(
    queue: Queue, cache: redis.Redis
) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    for attempts in range(1, 8):
        attempt = await lease_due(queue)
        outcome = await queue.fail(attempt, [1.0, 60.0], {"error": "no"}, unlimited=True)
        assert outcome == (attempts, 1.0 if attempts == 1 else 60.0)
        cache.zadd(f"{keys.INTERNAL}due:1", {"thing:1": 1})  # later
    assert not cache.exists(keys.DEAD_LETTERS)


async def test_a_job_whose_hash_was_evicted_keeps_the_delay_of_its_failure(
    queue: Queue, cache: "redis.Redis"
) -> None:
    await queue.enqueue([PendingJob(Thing(1), priority=Priority.BACKGROUND)])
    attempt = await lease_due(queue)
    cache.delete(f"{keys.INTERNAL}job:{Thing(1).name}")
    assert await queue.fail(attempt, [3600.0], {}) == (1, 3600.0)
    assert await nothing_due(queue)
    await queue.enqueue([PendingJob(Thing(1))])
    assert await nothing_due(queue)
    assert cache.hget(f"{keys.INTERNAL}job:{Thing(1).name}", "attempts") == b"1"
