"""A pending job has the newest event for which it is pending, and the age of the oldest one."""

from typing import Any

import orjson
import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.jobs.attempt import Completion, EventRef
from statsd.jobs.pending import Consequence, PendingJob
from statsd.jobs.provenance import Provenance, joined, provenance_of
from statsd.jobs.queue import Queue
from statsd.stream.event_stream import Stream
from tests.support.dojo_site import DojoSite
from tests.support.plain_jobs import Thing, answer, lease_due

pytestmark = pytest.mark.every_redis


@pytest.fixture
def stream(async_cache: Redis) -> Stream:
    return Stream(async_cache, async_cache, "one", block=0.05, dead_limit=3)


async def accept(stream: Stream, provenances: dict[Consequence, Provenance | None]) -> int:
    return await stream.accept([], provenances, [])


def published(cache: redis.Redis, ago: float) -> int:
    """Return the moment `ago` seconds ago, as in the ids of entries."""
    found: Any = cache.time()
    return int((found[0] - ago) * 1000) + int(found[1]) // 1000


def test_a_provenance_is_the_oldest_moment_and_the_newest_event() -> None:
    older = provenance_of(["20-3", "9-1", "20-11"], "solve")
    assert older == Provenance(9, "20-11", "solve")
    assert joined(older, Provenance(8, "20-9", "belt")) == Provenance(8, "20-11", "solve")
    assert joined(Provenance(10, "100-0", "belt"), older) == Provenance(9, "100-0", "belt")


async def test_a_completion_has_the_time_since_its_oldest_event(
    queue: Queue, stream: Stream, cache: redis.Redis
) -> None:
    assert (
        await accept(
            stream, {PendingJob(Thing(1)): Provenance(published(cache, 3600), "7-0", "solve")}
        )
        == 0
    )
    assert (
        await accept(
            stream, {PendingJob(Thing(1)): Provenance(published(cache, 600), "8-0", "belt")}
        )
        == 1
    )
    attempt = await lease_due(queue)
    assert attempt.events == {"thing:1": EventRef("8-0", "belt")}
    assert attempt.newest_event == {"entry": "8-0", "event_type": "belt"}
    [completed] = await queue.complete(attempt, answer(1))
    assert completed.waited is not None
    assert 3600 <= completed.waited < 4200


async def test_events_during_the_lease_belong_to_the_next_answer(
    queue: Queue, stream: Stream, cache: redis.Redis
) -> None:
    await accept(stream, {PendingJob(Thing(1)): Provenance(published(cache, 3600), "7-0", "solve")})
    attempt = await lease_due(queue)
    for ago, entry in ((1800, "8-0"), (600, "9-0")):
        await accept(
            stream, {PendingJob(Thing(1)): Provenance(published(cache, ago), entry, "solve")}
        )
    [completed] = await queue.complete(attempt, answer(1))
    assert completed.status == "requeued"
    assert completed.waited is not None
    assert 3600 <= completed.waited < 4200
    attempt = await lease_due(queue)
    assert attempt.events == {"thing:1": EventRef("9-0", "solve")}
    [completed] = await queue.complete(attempt, answer(2))
    assert completed.waited is not None
    assert 1800 <= completed.waited < 2400


async def test_a_job_pending_for_no_event_has_no_waiting_time(queue: Queue) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    attempt = await lease_due(queue)
    assert attempt.newest_event == {}
    assert await queue.complete(attempt, answer(1)) == [Completion("completed")]


async def test_the_last_run_is_stored_with_its_event(
    queue: Queue, stream: Stream, cache: redis.Redis
) -> None:
    await accept(stream, {PendingJob(Thing(1)): Provenance(published(cache, 1), "7-0", "solve")})
    attempt = await lease_due(queue)
    await queue.complete(attempt, answer(1), took=0.25)
    assert cache.hget(keys.LAST_RUNS, "thing:1") == f"{attempt.token}|250000|7-0|solve".encode()
    await queue.enqueue([PendingJob(Thing(1))])  # for no event
    attempt = await lease_due(queue)
    await queue.complete(attempt, answer(1), took=0.5)
    assert cache.hget(keys.LAST_RUNS, "thing:1") == f"{attempt.token}|500000|7-0|solve".encode()


async def test_follow_ups_have_the_provenance_of_the_answer(
    dojo_site: DojoSite, cache: redis.Redis
) -> None:
    dojo_site.webapp.solve(dojo_site.users[1], dojo_site.challenges[0])
    entries: Any = cache.xrange(keys.STREAM)
    [(entry, content)] = entries
    event_type = orjson.loads(content[b"data"])["type"].encode()
    await dojo_site.consumer.step()
    await dojo_site.answer({"user_entries"})
    for job in (dojo_site.stats, dojo_site.exports):
        fields: Any = cache.hgetall(keys.job(job.name))
        assert (fields[b"entry"], fields[b"type"]) == (entry, event_type)
        assert fields[b"since"] == entry.split(b"-")[0]


async def test_follow_ups_of_new_boards_have_no_provenance(
    dojo_site: DojoSite, cache: redis.Redis
) -> None:
    """Earlier solves are in the statistics already, by the follow-ups of their user entries."""
    cache.delete(dojo_site.pointer)
    dojo_site.webapp.solve(dojo_site.users[1], dojo_site.challenges[0])
    await dojo_site.consumer.step()
    await dojo_site.answer({"user_entries", "dojo_stats"})
    assert cache.hget(keys.job(dojo_site.whole.name), "entry")
    await dojo_site.answer({"boards"})
    assert cache.exists(keys.job(dojo_site.stats.name))
    assert not cache.hexists(keys.job(dojo_site.stats.name), "entry")


async def test_an_event_during_a_released_lease_still_counts(
    queue: Queue, stream: Stream, cache: redis.Redis
) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    await lease_due(queue)
    await accept(stream, {PendingJob(Thing(1)): Provenance(published(cache, 3600), "8-0", "solve")})
    await queue.release()
    await accept(stream, {PendingJob(Thing(1)): Provenance(published(cache, 600), "9-0", "solve")})
    attempt = await lease_due(queue)
    assert attempt.events == {"thing:1": EventRef("9-0", "solve")}
    [completed] = await queue.complete(attempt, answer(1))
    assert completed.waited is not None
    assert 3600 <= completed.waited < 4200


async def test_an_answer_with_a_renewed_token_covers_the_events_before_it(
    queue: Queue, stream: Stream, cache: redis.Redis
) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    attempt = await lease_due(queue)
    await accept(stream, {PendingJob(Thing(1)): Provenance(published(cache, 3600), "8-0", "solve")})
    [completed] = await queue.complete(await queue.renew(attempt), answer(1))
    assert completed.status == "completed"
    assert completed.waited is not None
    assert completed.waited >= 3600


async def test_a_fenced_answer_has_no_waiting_time(
    queue: Queue, stream: Stream, cache: redis.Redis
) -> None:
    await accept(stream, {PendingJob(Thing(1)): Provenance(published(cache, 3600), "8-0", "solve")})
    attempt = await lease_due(queue)
    await queue.release()
    assert await queue.complete(attempt, answer(1)) == [Completion("fenced")]


async def test_a_job_requeued_for_no_event_names_no_event(
    queue: Queue, stream: Stream, cache: redis.Redis
) -> None:
    await accept(stream, {PendingJob(Thing(1)): Provenance(published(cache, 3600), "8-0", "solve")})
    attempt = await lease_due(queue)
    await queue.enqueue([PendingJob(Thing(1))])
    await queue.complete(attempt, answer(1))
    second = await lease_due(queue)
    assert second.newest_event == {}
    assert await queue.complete(second, answer(2)) == [Completion("completed")]


async def test_an_older_event_that_comes_later_does_not_become_the_newest(
    queue: Queue, stream: Stream, cache: redis.Redis
) -> None:
    for entry in ("100-10", "100-9", "99-0"):
        await accept(
            stream, {PendingJob(Thing(1)): Provenance(published(cache, 1), entry, "solve")}
        )
    assert (await lease_due(queue)).newest_event["entry"] == "100-10"
