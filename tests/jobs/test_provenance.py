"""A mark knows the events that it is owed for: the newest, and how long the oldest has waited."""

from typing import Any

import orjson
import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.jobs.pending import Mark, Record
from statsd.jobs.provenance import Cause, cause_of, joined
from statsd.jobs.queue import Event, Marks, Settled
from statsd.stream.event_stream import Stream
from tests.support.board_school import School
from tests.support.plain_jobs import Thing, answer, take

pytestmark = pytest.mark.every_redis


@pytest.fixture
def stream(async_cache: Redis) -> Stream:
    return Stream(async_cache, async_cache, "one", block=0.05, dead_limit=3)


async def accept(stream: Stream, causes: dict[Record, Cause | None]) -> int:
    return await stream.accept([], causes, [])


def published(cache: redis.Redis, ago: float) -> int:
    """Return the moment so many seconds ago, as ids of entries have it."""
    found: Any = cache.time()
    return int((found[0] - ago) * 1000) + int(found[1]) // 1000


def test_a_cause_is_the_oldest_moment_and_the_newest_event() -> None:
    older = cause_of(["20-3", "9-1", "20-11"], "solve")
    assert older == Cause(9, "20-11", "solve")
    assert joined(older, Cause(8, "20-9", "belt")) == Cause(8, "20-11", "solve")
    assert joined(Cause(10, "100-0", "belt"), older) == Cause(9, "100-0", "belt")


async def test_an_answer_tells_how_long_its_oldest_event_waited(
    marks: Marks, stream: Stream, cache: redis.Redis
) -> None:
    assert await accept(stream, {Mark(Thing(1)): Cause(published(cache, 60), "7-0", "solve")}) == 0
    assert await accept(stream, {Mark(Thing(1)): Cause(published(cache, 50), "8-0", "belt")}) == 1
    attempt = await take(marks)
    assert attempt.events == {"thing:1": Event("8-0", "belt")}
    assert attempt.newest_event == {"entry": "8-0", "event_type": "belt"}
    [settled] = await marks.settle(attempt, answer(1))
    assert settled.waited is not None
    assert 60 <= settled.waited < 65


async def test_what_comes_during_the_work_waits_for_the_next_answer(
    marks: Marks, stream: Stream, cache: redis.Redis
) -> None:
    await accept(stream, {Mark(Thing(1)): Cause(published(cache, 60), "7-0", "solve")})
    attempt = await take(marks)
    for ago, entry in ((20, "8-0"), (10, "9-0")):
        await accept(stream, {Mark(Thing(1)): Cause(published(cache, ago), entry, "solve")})
    [settled] = await marks.settle(attempt, answer(1))
    assert settled.status == "again"
    assert settled.waited is not None
    assert 60 <= settled.waited < 65
    attempt = await take(marks)
    assert attempt.events == {"thing:1": Event("9-0", "solve")}
    [settled] = await marks.settle(attempt, answer(2))
    assert settled.waited is not None
    assert 20 <= settled.waited < 25


async def test_what_is_owed_for_no_event_has_waited_for_none(marks: Marks) -> None:
    await marks.mark([Mark(Thing(1))])
    attempt = await take(marks)
    assert attempt.newest_event == {}
    assert await marks.settle(attempt, answer(1)) == [Settled("settled")]


async def test_the_last_answer_is_remembered_with_its_event(
    marks: Marks, stream: Stream, cache: redis.Redis
) -> None:
    await accept(stream, {Mark(Thing(1)): Cause(published(cache, 1), "7-0", "solve")})
    attempt = await take(marks)
    await marks.settle(attempt, answer(1), took=0.25)
    assert cache.hget(keys.RUNS, "thing:1") == f"{attempt.token}|250000|7-0|solve".encode()
    await marks.mark([Mark(Thing(1))])  # time, say
    attempt = await take(marks)
    await marks.settle(attempt, answer(1), took=0.5)
    assert cache.hget(keys.RUNS, "thing:1") == f"{attempt.token}|500000|7-0|solve".encode()


async def test_what_follows_from_an_answer_is_for_the_same_event(
    school: School, cache: redis.Redis
) -> None:
    school.webapp.solve(school.users[1], school.challenges[0])
    entries: Any = cache.xrange(keys.STREAM)
    [(entry, fields)] = entries
    event_type = orjson.loads(fields[b"data"])["type"].encode()
    await school.consumer.step()
    await school.answer({"standing"})
    for refresh in (school.stats, school.scoreboard):
        mark: Any = cache.hgetall(keys.mark(refresh.name))
        assert (mark[b"entry"], mark[b"type"]) == (entry, event_type)
        assert mark[b"since"] == entry.split(b"-")[0]


async def test_boards_that_take_the_place_of_others_tell_of_no_event(
    school: School, cache: redis.Redis
) -> None:
    """What was solved before them is in the statistics already, and was so sooner."""
    school.webapp.solve(school.users[1], school.challenges[0])
    await school.consumer.step()
    await school.answer({"standing", "dojo_stats"})
    assert cache.hget(keys.mark(school.scoreboard.name), "entry")
    await school.answer({"scoreboard"})
    assert cache.exists(keys.mark(school.stats.name))
    assert not cache.hexists(keys.mark(school.stats.name), "entry")


async def test_an_event_that_came_during_work_given_back_still_counts(
    marks: Marks, stream: Stream, cache: redis.Redis
) -> None:
    await marks.mark([Mark(Thing(1))])
    await take(marks)
    await accept(stream, {Mark(Thing(1)): Cause(published(cache, 60), "8-0", "solve")})
    await marks.release()
    await accept(stream, {Mark(Thing(1)): Cause(published(cache, 5), "9-0", "solve")})
    attempt = await take(marks)
    assert attempt.events == {"thing:1": Event("9-0", "solve")}
    [settled] = await marks.settle(attempt, answer(1))
    assert settled.waited is not None
    assert 60 <= settled.waited < 65


async def test_an_answer_with_a_newer_token_is_for_what_came_before_it(
    marks: Marks, stream: Stream, cache: redis.Redis
) -> None:
    await marks.mark([Mark(Thing(1))])
    attempt = await take(marks)
    await accept(stream, {Mark(Thing(1)): Cause(published(cache, 60), "8-0", "solve")})
    [settled] = await marks.settle(await marks.renew(attempt), answer(1))
    assert settled.status == "settled"
    assert settled.waited is not None
    assert settled.waited >= 60


async def test_an_answer_that_is_refused_has_answered_no_event(
    marks: Marks, stream: Stream, cache: redis.Redis
) -> None:
    await accept(stream, {Mark(Thing(1)): Cause(published(cache, 60), "8-0", "solve")})
    attempt = await take(marks)
    await marks.release()
    assert await marks.settle(attempt, answer(1)) == [Settled("lost")]


async def test_what_is_owed_again_for_no_event_names_none(
    marks: Marks, stream: Stream, cache: redis.Redis
) -> None:
    await accept(stream, {Mark(Thing(1)): Cause(published(cache, 60), "8-0", "solve")})
    attempt = await take(marks)
    await marks.mark([Mark(Thing(1))])
    await marks.settle(attempt, answer(1))
    again = await take(marks)
    assert again.newest_event == {}
    assert await marks.settle(again, answer(2)) == [Settled("settled")]


async def test_an_older_event_that_comes_later_does_not_become_the_newest(
    marks: Marks, stream: Stream, cache: redis.Redis
) -> None:
    for entry in ("100-10", "100-9", "99-0"):
        await accept(stream, {Mark(Thing(1)): Cause(published(cache, 1), entry, "solve")})
    assert (await take(marks)).newest_event["entry"] == "100-10"
