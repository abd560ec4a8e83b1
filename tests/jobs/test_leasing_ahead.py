"""The worker for what is urgent leases what is due next in the step that writes an answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.job import Priority, Refresh
from statsd.jobs.parts import at_once
from statsd.jobs.pending import Mark
from statsd.jobs.provenance import Cause
from statsd.jobs.queue import SECOND, Answer, Attempt, Choice, Marks
from statsd.jobs.wakeup import Bell
from statsd.jobs.worker import Performer, Worker
from statsd.stream.event_stream import Stream
from tests.support.plain_jobs import BATCHES, KEY, Other, Thing, answer, marks_of, nothing_due, take
from tests.support.processes import statuses


def leased(cache: redis.Redis) -> set[Any]:
    return set(cache.hkeys(keys.LEASES))


class Answering:
    """Answers things, which owe others, and others; says what was leased meanwhile."""

    def __init__(self, cache: redis.Redis, then: Callable[[], object] = lambda: None) -> None:
        self._cache = cache
        self._then = then
        self.seen: list[tuple[Sequence[Refresh], set[Any]]] = []

    async def perform(self, wanted: Sequence[Any], _attempt: Attempt) -> Mapping[Refresh, Answer]:
        self.seen.append((wanted, leased(self._cache)))
        self._then()
        return {
            each: Answer({f"stats:{each.name}": 1}, [Mark(Other(1))] if each == Thing(1) else [])
            for each in wanted
        }


def urgent(
    marks: Marks, answering: Answering, stopping: Callable[[], bool] = lambda: False
) -> Worker:
    perform = at_once(answering.perform)
    performers = {kind: Performer(perform, batch) for kind, batch in BATCHES.batches.items()}
    return Worker(
        marks,
        performers,
        Bell(),
        lease=30,
        retry_delays=(60,),
        least=Priority.ORDINARY,
        others=Bell(),
        stopping=stopping,
    )


async def test_what_an_answer_owes_is_taken_with_it(marks: Marks, cache: redis.Redis) -> None:
    await marks.mark([Mark(Thing(1))])
    attempt = await take(marks)
    answers = {"thing:1": Answer({KEY: 1}, [Mark(Other(1))])}
    settled, taken = await marks.settle_and_take(attempt, answers, BATCHES)
    assert statuses(settled) == ["settled"]
    assert taken is not None
    assert taken.attempt is not None
    assert taken.attempt.names == ("other:1",)
    assert taken.attempt.token > attempt.token
    assert leased(cache) == {b"other:1"}
    marked: Any = cache.hget(keys.mark("other:1"), "marked")
    assert taken.attempt.token > int(marked)
    assert statuses(await marks.settle(taken.attempt, {"other:1": Answer({})})) == ["settled"]
    assert await nothing_due(marks)


async def test_a_refused_answer_is_no_reason_not_to_take(
    marks: Marks, async_cache: Redis, cache: redis.Redis
) -> None:
    await marks.mark([Mark(Thing(1)), Mark(Other(1))])
    attempt = await take(marks)
    cache.hset(keys.LEASES, "thing:1", "another")
    settled, taken = await marks.settle_and_take(attempt, answer(1), BATCHES)
    assert statuses(settled) == ["lost"]
    assert not cache.exists(KEY)
    assert taken is not None
    assert taken.attempt is not None
    assert taken.attempt.names == ("other:1",)
    assert (await marks_of(async_cache, "two").take(BATCHES)).attempt is None


async def test_nothing_due_is_told_of_too(marks: Marks) -> None:
    await marks.mark([Mark(Thing(1)), Mark(Other(1), delay=2.0)])
    attempt = await take(marks)
    _, taken = await marks.settle_and_take(attempt, answer(1), Choice({"thing": 1}))
    assert taken is not None
    assert taken.attempt is None
    assert not taken.more
    assert taken.wait is not None
    assert 1.0 < taken.wait < 3.0


async def test_the_worker_goes_on_with_what_it_took(marks: Marks, cache: redis.Redis) -> None:
    answering = Answering(cache)
    worker = urgent(marks, answering)
    await marks.mark([Mark(Thing(1))])
    await worker.step()
    assert leased(cache) == {b"other:1"}
    await worker.step()
    assert answering.seen == [([Thing(1)], {b"thing:1"}), ([Other(1)], {b"other:1"})]
    assert not leased(cache)
    assert await nothing_due(marks)
    assert cache.exists("stats:thing:1", "stats:other:1") == 2


async def test_what_was_taken_ahead_is_given_back_when_a_server_is_lost(
    marks: Marks, async_cache: Redis, cache: redis.Redis
) -> None:
    worker = urgent(marks, Answering(cache))
    await marks.mark([Mark(Thing(1))])
    await worker.step()
    assert leased(cache) == {b"other:1"}
    await worker.recover()
    assert not leased(cache)
    assert (await take(marks_of(async_cache, "two"))).names == ("other:1",)


async def test_nothing_is_taken_ahead_while_others_of_the_batch_are_left(
    marks: Marks, cache: redis.Redis
) -> None:
    """The first answer comes too late: it is refused, halved and tried again."""
    clock = f"{keys.INTERNAL}clock"
    hours = iter([3600])

    def lose_an_hour() -> None:
        newest: Any = cache.hget(clock, "last")
        cache.hset(clock, "last", int(newest) + next(hours, 0) * SECOND)

    answering = Answering(cache, lose_an_hour)
    worker = urgent(marks, answering)
    await marks.mark([Mark(Thing(2)), Mark(Thing(3)), Mark(Other(1))])
    await worker.step()
    assert leased(cache) == {b"other:1"}
    await worker.step()
    assert answering.seen == [
        ([Thing(2), Thing(3)], {b"thing:2", b"thing:3"}),
        ([Thing(2)], {b"thing:2", b"thing:3"}),
        ([Thing(3)], {b"thing:3"}),
        ([Other(1)], {b"other:1"}),
    ]
    assert cache.exists("stats:thing:2", "stats:thing:3", "stats:other:1") == 3
    assert not leased(cache)


async def test_nothing_is_taken_ahead_of_an_answer_that_is_late(
    marks: Marks, cache: redis.Redis
) -> None:
    await marks.mark([Mark(Thing(1)), Mark(Other(1))])
    attempt = await take(marks)
    old = replace(attempt, token=attempt.token - 3600 * SECOND)
    settled, taken = await marks.settle_and_take(old, answer(1), BATCHES)
    assert statuses(settled) == ["late"]
    assert taken is None
    assert leased(cache) == {b"thing:1"}


async def test_one_who_is_told_to_stop_takes_nothing_ahead(
    marks: Marks, cache: redis.Redis
) -> None:
    worker = urgent(marks, Answering(cache), stopping=lambda: True)
    await marks.mark([Mark(Thing(1))])
    await worker.step()
    assert cache.exists("stats:thing:1")
    assert not leased(cache)


async def test_what_time_alone_owes_is_not_for_the_event_of_the_answer_before(
    marks: Marks, async_cache: Redis, cache: redis.Redis
) -> None:
    """Both happen in one step."""
    stream = Stream(async_cache, async_cache, "one", block=0.05, dead_limit=3)
    await marks.mark([Mark(Other(1), delay=60.0)])
    await stream.accept([], {Mark(Thing(1)): Cause(1, "1-0", "tested")}, [])
    attempt = await take(marks)
    assert attempt.events
    later: Any = cache.zrange(keys.LATER, 0, -1)
    cache.zadd(keys.LATER, dict.fromkeys(later, 1))
    [settled], taken = await marks.settle_and_take(attempt, answer(1), BATCHES)
    assert settled.waited is not None
    assert taken is not None
    assert taken.attempt is not None
    assert taken.attempt.names == ("other:1",)
    assert not taken.attempt.events
