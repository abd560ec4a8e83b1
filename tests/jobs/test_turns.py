"""Whose turn it is: by class, but nothing starves. What rests, and what is not written again."""

from dataclasses import replace

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.job import Priority
from statsd.jobs.pending import Mark
from statsd.jobs.queue import SECOND, Answer, Choice, Marks
from tests.support.plain_jobs import BATCHES, KEY, Other, Thing, answer, marks_of, nothing_due, take
from tests.support.processes import statuses

pytestmark = pytest.mark.every_redis

AGED = [  # by class, seconds after which it comes before what is interactive and new
    (Priority.ORDINARY, 1),
    (Priority.EXPORT, 10),
    (Priority.BACKGROUND, 60),
    (Priority.IDLE, 300),
]


def age(cache: redis.Redis, priority: Priority, name: str, seconds: float) -> None:
    """Let it have been due for so long."""
    cache.zincrby(keys.due(priority), -seconds * SECOND, name)


def test_every_class_but_the_first_ages() -> None:
    assert {Priority.MISSED, Priority.INTERACTIVE, *(each for each, _ in AGED)} == set(Priority)


@pytest.mark.parametrize(("priority", "seconds"), AGED)
async def test_what_has_waited_for_long_comes_before_newer_marks_of_urgent_classes(
    marks: Marks, cache: redis.Redis, priority: Priority, seconds: float
) -> None:
    await marks.mark([Mark(Other(1), priority=priority), Mark(Thing(1)), Mark(Thing(2))])
    age(cache, priority, "other:1", seconds - 0.5)
    first = await marks.take(Choice({"thing": 1}))
    assert first.attempt is not None
    assert first.attempt.names == ("thing:1",)
    age(cache, priority, "other:1", 1.0)
    assert (await take(marks)).names == ("other:1",)
    assert (await take(marks)).names == ("thing:2",)


async def test_what_a_page_waits_for_comes_before_all_else(
    marks: Marks, cache: redis.Redis
) -> None:
    await marks.mark([Mark(Other(1)), Mark(Thing(1), priority=Priority.MISSED)])
    age(cache, Priority.INTERACTIVE, "other:1", 3600)
    assert (await take(marks)).names == ("thing:1",)


async def test_a_worker_for_what_is_urgent_never_takes_it_by_age(
    marks: Marks, cache: redis.Redis
) -> None:
    await marks.mark([Mark(Other(1), priority=Priority.ORDINARY), Mark(Thing(1))])
    age(cache, Priority.ORDINARY, "other:1", 3600)
    taken = await marks.take(replace(BATCHES, strict=True))
    assert taken.attempt is not None
    assert taken.attempt.names == ("thing:1",)


async def test_an_attempt_knows_how_long_the_oldest_was_due(
    marks: Marks, cache: redis.Redis
) -> None:
    await marks.mark([Mark(Thing(1)), Mark(Thing(2))])
    age(cache, Priority.INTERACTIVE, "thing:2", 5)
    assert 5 <= (await take(marks)).queued < 10


async def test_what_rests_is_not_due_unless_a_page_waits_for_it(marks: Marks) -> None:
    await marks.mark([Mark(Thing(1))])
    await marks.settle(await take(marks), answer(1), rest=60.0)
    await marks.mark([Mark(Thing(1))])
    assert await nothing_due(marks)
    await marks.mark([Mark(Thing(1), priority=Priority.MISSED)])
    assert (await take(marks)).names == ("thing:1",)


async def test_an_unchanged_value_is_not_written_again_and_its_stamp_moves(
    marks: Marks, cache: redis.Redis
) -> None:
    values = {KEY: {"solves": 5}, "stats:thing:2": "second"}
    written = []
    for each in (values, values, values | {KEY: {"solves": 6}}, values | {KEY: {"solves": 7}}):
        await marks.mark([Mark(Thing(1))])
        attempt = await take(marks)
        before = cache.info("commandstats").get("cmdstat_set", {"calls": 0})["calls"]
        [settled] = await marks.settle(attempt, {"thing:1": Answer(each)})
        after = cache.info("commandstats")["cmdstat_set"]["calls"]
        assert settled.status == "settled"
        written.append((after - before, settled.unchanged))
        stamp = f"{attempt.token // SECOND}.{attempt.token % SECOND:06d}".encode()
        assert cache.get(keys.updated(KEY)) == cache.get("stats:thing:2:updated") == stamp
    assert written == [(4, 0), (2, 2), (3, 1), (3, 1)]
    assert cache.get(KEY) == b'{"solves":7}'


async def test_a_key_that_somebody_made_a_list_is_written_again(
    marks: Marks, cache: redis.Redis
) -> None:
    cache.rpush(KEY, "no", "value")
    await marks.mark([Mark(Thing(1))])
    assert statuses(await marks.settle(await take(marks), answer(1))) == ["settled"]
    assert cache.get(KEY) == b"1"


async def test_what_is_held_waits_unless_a_page_waits_for_it(
    marks: Marks, cache: redis.Redis
) -> None:
    await marks.mark([Mark(Other(1)), Mark(Thing(1), priority=Priority.BACKGROUND)])
    age(cache, Priority.INTERACTIVE, "other:1", 3600)
    taken = await marks.take(replace(BATCHES, held=["other"]))
    assert taken.attempt is not None
    assert taken.attempt.names == ("thing:1",)
    assert (await marks.take(replace(BATCHES, held=["other"]))).attempt is None
    await marks.mark([Mark(Other(1), priority=Priority.MISSED)])
    missed = await marks.take(replace(BATCHES, held=["other"]))
    assert missed.attempt is not None
    assert missed.attempt.names == ("other:1",)


async def test_as_many_are_taken_as_a_batch_has_room_for(
    marks: Marks, cache: redis.Redis, async_cache: Redis
) -> None:
    """More than are looked at, leased and prolonged at once."""
    await marks.mark([Mark(Thing(number)) for number in range(2500)])
    await marks.mark([Mark(Other(1))])
    many = Choice({"reconcile": 1, "thing": 2200})
    first = await marks.take(many)
    assert first.attempt is not None
    assert first.attempt.names == tuple(f"thing:{number}" for number in range(2200))
    assert first.more
    second = await marks_of(async_cache, "two").take(many)
    assert second.attempt is not None
    assert second.attempt.names == tuple(f"thing:{number}" for number in range(2200, 2500))
    assert cache.hlen(keys.LEASES) == 2500
    for number in (0, 999, 1000, 2199):
        cache.zadd(keys.due(Priority.INTERACTIVE), {f"thing:{number}": 0})
    cache.hset(keys.LEASES, "thing:1000", "another")
    await marks.renew(first.attempt)
    assert (await take(marks)).names == ("thing:1000",)
    assert (await take(marks)).names == ("other:1",)
    assert await nothing_due(marks)
