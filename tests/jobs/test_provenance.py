"""A mark knows the events that it is owed for: the newest, and how long the oldest has waited."""

from typing import Any

import orjson
import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.jobs.pending import Consequence, PendingJob
from statsd.jobs.provenance import Provenance, joined, provenance_of
from statsd.jobs.queue import Completion, EventRef, Queue
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
    """Return the moment so many seconds ago, as ids of entries have it."""
    found: Any = cache.time()
    return int((found[0] - ago) * 1000) + int(found[1]) // 1000


def test_a_provenance_is_the_oldest_moment_and_the_newest_event() -> None:
    older = provenance_of(["20-3", "9-1", "20-11"], "solve")
    assert older == Provenance(9, "20-11", "solve")
    assert joined(older, Provenance(8, "20-9", "belt")) == Provenance(8, "20-11", "solve")
    assert joined(Provenance(10, "100-0", "belt"), older) == Provenance(9, "100-0", "belt")


async def test_an_answer_tells_how_long_its_oldest_event_waited(
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


async def test_what_comes_during_the_work_waits_for_the_next_answer(
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


async def test_what_is_pending_for_no_event_has_waited_for_none(queue: Queue) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    attempt = await lease_due(queue)
    assert attempt.newest_event == {}
    assert await queue.complete(attempt, answer(1)) == [Completion("completed")]


async def test_the_last_answer_is_remembered_with_its_event(
    queue: Queue, stream: Stream, cache: redis.Redis
) -> None:
    await accept(stream, {PendingJob(Thing(1)): Provenance(published(cache, 1), "7-0", "solve")})
    attempt = await lease_due(queue)
    await queue.complete(attempt, answer(1), took=0.25)
    assert cache.hget(keys.LAST_RUNS, "thing:1") == f"{attempt.token}|250000|7-0|solve".encode()
    await queue.enqueue([PendingJob(Thing(1))])  # time, say
    attempt = await lease_due(queue)
    await queue.complete(attempt, answer(1), took=0.5)
    assert cache.hget(keys.LAST_RUNS, "thing:1") == f"{attempt.token}|500000|7-0|solve".encode()


async def test_what_follows_from_an_answer_is_for_the_same_event(
    dojo_site: DojoSite, cache: redis.Redis
) -> None:
    dojo_site.webapp.solve(dojo_site.users[1], dojo_site.challenges[0])
    entries: Any = cache.xrange(keys.STREAM)
    [(entry, content)] = entries
    event_type = orjson.loads(content[b"data"])["type"].encode()
    await dojo_site.consumer.step()
    await dojo_site.answer({"user_entries"})
    for job in (dojo_site.stats, dojo_site.scoreboard):
        fields: Any = cache.hgetall(keys.job(job.name))
        assert (fields[b"entry"], fields[b"type"]) == (entry, event_type)
        assert fields[b"since"] == entry.split(b"-")[0]


async def test_boards_that_take_the_place_of_others_tell_of_no_event(
    dojo_site: DojoSite, cache: redis.Redis
) -> None:
    """What was solved before them is in the statistics already, and was so sooner."""
    dojo_site.webapp.solve(dojo_site.users[1], dojo_site.challenges[0])
    await dojo_site.consumer.step()
    await dojo_site.answer({"user_entries", "dojo_stats"})
    assert cache.hget(keys.job(dojo_site.scoreboard.name), "entry")
    await dojo_site.answer({"scoreboard"})
    assert cache.exists(keys.job(dojo_site.stats.name))
    assert not cache.hexists(keys.job(dojo_site.stats.name), "entry")


async def test_an_event_that_came_during_work_given_back_still_counts(
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


async def test_an_answer_with_a_newer_token_is_for_what_came_before_it(
    queue: Queue, stream: Stream, cache: redis.Redis
) -> None:
    await queue.enqueue([PendingJob(Thing(1))])
    attempt = await lease_due(queue)
    await accept(stream, {PendingJob(Thing(1)): Provenance(published(cache, 3600), "8-0", "solve")})
    [completed] = await queue.complete(await queue.renew(attempt), answer(1))
    assert completed.status == "completed"
    assert completed.waited is not None
    assert completed.waited >= 3600


async def test_an_answer_that_is_refused_has_answered_no_event(
    queue: Queue, stream: Stream, cache: redis.Redis
) -> None:
    await accept(stream, {PendingJob(Thing(1)): Provenance(published(cache, 3600), "8-0", "solve")})
    attempt = await lease_due(queue)
    await queue.release()
    assert await queue.complete(attempt, answer(1)) == [Completion("fenced")]


async def test_what_is_pending_again_for_no_event_names_none(
    queue: Queue, stream: Stream, cache: redis.Redis
) -> None:
    await accept(stream, {PendingJob(Thing(1)): Provenance(published(cache, 3600), "8-0", "solve")})
    attempt = await lease_due(queue)
    await queue.enqueue([PendingJob(Thing(1))])
    await queue.complete(attempt, answer(1))
    again = await lease_due(queue)
    assert again.newest_event == {}
    assert await queue.complete(again, answer(2)) == [Completion("completed")]


async def test_an_older_event_that_comes_later_does_not_become_the_newest(
    queue: Queue, stream: Stream, cache: redis.Redis
) -> None:
    for entry in ("100-10", "100-9", "99-0"):
        await accept(
            stream, {PendingJob(Thing(1)): Provenance(published(cache, 1), entry, "solve")}
        )
    assert (await lease_due(queue)).newest_event["entry"] == "100-10"
