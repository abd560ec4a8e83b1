"""The clock's key alone is lost, while the server's clock shows less than the newest token."""

from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.consistency.reconcile import Reconcile
from statsd.job import Priority
from statsd.jobs.pending import Mark
from statsd.jobs.queue import SECOND, Answer, Marks
from tests.support.plain_jobs import BATCHES, KEY, Thing, answer, marks_of, take

pytestmark = pytest.mark.every_redis

CLOCK = f"{keys.INTERNAL}clock"
HOUR = 3600 * SECOND


@pytest.fixture
async def marks(async_cache: Redis, cache: "redis.Redis") -> Marks:
    """Marks with one value, on a server whose clock was an hour ahead and was set right."""
    marks = marks_of(async_cache, "one")
    await marks.mark([Mark(Thing(1))])
    seconds, _ = await async_cache.time()
    ahead = seconds * SECOND + HOUR
    cache.hset(CLOCK, mapping={"last": ahead, "seen": ahead})
    assert (await take(marks)).names == (Reconcile().name,)
    await marks.settle(await take(marks), answer("before"))
    return marks


async def work(marks: Marks, value: object) -> None:
    """Answer what is due, once; reconciling marks what is held, as the daemon's does."""
    for _ in range(10):
        attempt = (await marks.take(BATCHES)).attempt
        if attempt is None:
            return
        answers = {
            "thing:1": Answer({KEY: value}),
            "thing:2": Answer({}),
            "reconcile": Answer({}, [Mark(Thing(1))]),
        }
        await marks.settle(attempt, {name: answers[name] for name in attempt.names})
    pytest.fail("there is no end to the work")


async def test_values_are_written_all_the_same(marks: Marks, cache: "redis.Redis") -> None:
    before: Any = cache.get(keys.updated(KEY))
    cache.delete(CLOCK)
    await work(marks, "after")
    assert cache.get(KEY) == b'"after"'
    after: Any = cache.get(keys.updated(KEY))
    assert float(after) > float(before)


async def test_every_mark_is_answered_and_goes(marks: Marks, cache: "redis.Redis") -> None:
    """Also one that reconciling does not set anew."""
    await marks.mark([Mark(Thing(2))])
    cache.delete(CLOCK)
    await work(marks, "after")
    assert await marks.owed(Priority.INTERACTIVE) == 0


async def test_what_was_leased_is_due(marks: Marks, cache: "redis.Redis") -> None:
    """Its lease is by a clock that shows an hour more."""
    await marks.mark([Mark(Thing(1))])
    await take(marks)
    cache.delete(CLOCK)
    await work(marks, "after")
    assert cache.get(KEY) == b'"after"'


async def test_a_burial_from_before_leaves_the_new_debt(marks: Marks, cache: "redis.Redis") -> None:
    await marks.mark([Mark(Thing(1))])
    attempt = await marks.renew(await take(marks))
    cache.delete(CLOCK)
    await marks.mark([Mark(Thing(1))])
    attempts, _ = await marks.fail(attempt, [], {"error": "no"})
    assert attempts == 0
    assert not cache.exists(keys.DEAD_LETTERS)
    await work(marks, "after")
    assert cache.get(KEY) == b'"after"'


async def test_a_delayed_mark_is_due_soon(marks: Marks, cache: "redis.Redis") -> None:
    await marks.mark([Mark(Thing(2), delay=2)])
    cache.delete(CLOCK)
    await work(marks, "after")
    taken = await marks.take(BATCHES)
    assert taken.wait is not None
    assert 1 < taken.wait <= 3


async def test_what_failed_is_tried_again(marks: Marks, cache: "redis.Redis") -> None:
    await marks.mark([Mark(Thing(1))])
    await marks.fail(await take(marks), [5.0], {"error": "no"})
    cache.delete(CLOCK)
    await work(marks, "after")
    assert cache.get(KEY) == b'"after"'
