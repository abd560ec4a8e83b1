"""The debt in Redis: set, leased, answered, given back, buried; and the guard on values."""

from dataclasses import replace
from typing import Any

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


async def test_a_new_clock_owes_a_reconciliation(async_cache: Redis) -> None:
    marks = marks_of(async_cache, "one")
    taken = await marks.take(BATCHES)
    assert taken.attempt is not None
    assert taken.attempt.names == ("reconcile",)


async def test_equal_marks_are_one_debt(marks: Marks) -> None:
    await marks.mark([Mark(Thing(1)), Mark(Thing(1))])
    await marks.mark([Mark(Thing(1))])
    attempt = await take(marks)
    assert attempt.names == ("thing:1",)
    assert statuses(await marks.settle(attempt, answer(5))) == ["settled"]
    assert await nothing_due(marks)


async def test_value_and_stamp_are_written_in_one_step(marks: Marks, cache: redis.Redis) -> None:
    await marks.mark([Mark(Thing(1))])
    attempt = await take(marks)
    await marks.settle(attempt, answer({"solves": 5, "name": "ü\n"}))
    assert cache.get(KEY) == '{"solves":5,"name":"ü\\n"}'.encode()
    stamp = cache.get(keys.updated(KEY))
    assert stamp == f"{attempt.token // SECOND}.{attempt.token % SECOND:06d}".encode()


async def test_what_is_leased_is_not_taken_by_another(marks: Marks, async_cache: Redis) -> None:
    await marks.mark([Mark(Thing(1))])
    await take(marks)
    assert await nothing_due(marks_of(async_cache, "two"))


async def test_a_lease_that_expired_is_taken_by_another(async_cache: Redis, marks: Marks) -> None:
    hasty = marks_of(async_cache, "hasty", lease=0)
    await marks.mark([Mark(Thing(1))])
    late = await take(hasty)
    newer = await take(marks)
    assert newer.names == late.names
    assert newer.token > late.token
    assert statuses(await marks.settle(newer, answer("newer"))) == ["settled"]
    assert statuses(await hasty.settle(late, answer("older"))) == ["lost"]
    assert await async_cache.get(KEY) == b'"newer"'


async def test_a_mark_set_meanwhile_stays_and_runs_again(marks: Marks, cache: redis.Redis) -> None:
    await marks.mark([Mark(Thing(1))])
    first = await take(marks)
    await marks.mark([Mark(Thing(1))])
    assert statuses(await marks.settle(first, answer(1))) == ["again"]
    assert cache.get(KEY) == b"1"
    second = await take(marks)
    assert second.token > first.token
    assert statuses(await marks.settle(second, answer(2))) == ["settled"]
    assert cache.get(KEY) == b"2"


async def test_an_older_value_never_replaces_a_newer_one(marks: Marks, cache: redis.Redis) -> None:
    await marks.mark([Mark(Thing(1))])
    attempt = await take(marks)
    newer = f"{(attempt.token + 1) / SECOND:.6f}"
    cache.mset({KEY: '"newer"', keys.updated(KEY): newer})
    assert statuses(await marks.settle(attempt, answer("older"))) == ["settled"]
    assert cache.get(KEY) == b'"newer"'
    assert cache.get(keys.updated(KEY)) == newer.encode()


async def test_an_answer_over_a_minute_old_is_refused_and_owed(
    marks: Marks, cache: redis.Redis
) -> None:
    await marks.mark([Mark(Thing(1))])
    attempt = await take(marks)
    stale = replace(attempt, token=attempt.token - 61 * SECOND)
    assert statuses(await marks.settle(stale, answer(1))) == ["late"]
    assert not cache.exists(KEY)
    # It is leased yet, so that the worker can try with less at once.
    assert statuses(await marks.settle(await marks.renew(attempt), answer(2))) == ["settled"]


async def test_an_answer_from_before_the_clock_was_lost_is_refused(
    marks: Marks, cache: redis.Redis
) -> None:
    await marks.mark([Mark(Thing(1))])
    attempt = await take(marks)
    cache.flushall()
    assert statuses(await marks.settle(attempt, answer(1))) == ["lost"]
    assert not cache.exists(KEY)
    assert (await take(marks)).names == ("reconcile",)


async def test_tokens_never_go_back_whatever_the_clock_says(
    marks: Marks, cache: redis.Redis
) -> None:
    await marks.mark([Mark(Thing(1))])
    first = await take(marks)
    ahead = first.token + 3600 * SECOND
    cache.hset(f"{keys.INTERNAL}clock", mapping={"last": ahead, "seen": ahead})
    renewed = await marks.renew(first)
    again = await marks.renew(first)
    assert ahead < renewed.token < again.token


async def test_work_stays_due_when_the_clock_is_set_back(marks: Marks, cache: redis.Redis) -> None:
    """The server's clock was an hour ahead when this was marked."""
    clock = f"{keys.INTERNAL}clock"
    seconds, _ = cache.time()
    ahead = (seconds + 3600) * SECOND
    await marks.mark([Mark(Thing(1))])
    cache.zadd(f"{keys.INTERNAL}due:1", {"thing:1": ahead})
    cache.hset(clock, mapping={"last": ahead, "seen": ahead})
    assert (await take(marks)).names == ("thing:1",)


async def test_a_refresh_without_values_removes_the_keys_it_wrote(
    marks: Marks, cache: redis.Redis
) -> None:
    await marks.mark([Mark(Thing(1))])
    await marks.settle(await take(marks), answer(1))
    assert await marks.held() == ["thing:1"]
    await marks.mark([Mark(Thing(1))])
    assert statuses(await marks.settle(await take(marks), {"thing:1": Answer({})})) == ["settled"]
    assert not cache.exists(KEY, keys.updated(KEY))
    assert await marks.held() == []


async def test_the_key_of_a_former_name_goes(marks: Marks, cache: redis.Redis) -> None:
    for key in ("stats:thing:old", "stats:thing:new"):
        await marks.mark([Mark(Thing(1))])
        await marks.settle(await take(marks), answer(1, key))
    assert cache.exists("stats:thing:new", "stats:thing:new:updated") == 2
    assert not cache.exists("stats:thing:old", "stats:thing:old:updated")


async def test_a_key_that_another_refresh_took_over_stays(marks: Marks, cache: redis.Redis) -> None:
    for thing in (1, 2):
        await marks.mark([Mark(Thing(thing))])
        await marks.settle(await take(marks), {Thing(thing).name: Answer({KEY: thing})})
    await marks.mark([Mark(Thing(1))])
    await marks.settle(await take(marks), {"thing:1": Answer({})})
    assert cache.get(KEY) == b"2"


async def test_a_delayed_mark_waits_and_survives_an_earlier_answer(
    marks: Marks, cache: redis.Redis
) -> None:
    await marks.mark([Mark(Thing(1)), Mark(Thing(1), delay=3600)])
    assert statuses(await marks.settle(await take(marks), answer(1))) == ["settled"]
    taken = await marks.take(BATCHES)
    assert taken.attempt is None
    assert taken.wait is not None
    assert 3590 < taken.wait < 3602
    later: Any = cache.zrange(f"{keys.INTERNAL}later", 0, 0)
    [entry] = later
    cache.zadd(f"{keys.INTERNAL}later", {entry: 1})  # an hour later
    assert (await take(marks)).names == ("thing:1",)


async def test_the_more_urgent_class_comes_first(marks: Marks) -> None:
    await marks.mark([Mark(Thing(1), priority=Priority.BACKGROUND)])
    await marks.mark([Mark(Other(2), priority=Priority.ORDINARY)])
    assert (await take(marks)).names == ("other:2",)
    assert (await take(marks)).names == ("thing:1",)


async def test_a_mark_rises_to_a_more_urgent_class_and_never_sinks(marks: Marks) -> None:
    await marks.mark([Mark(Thing(1), priority=Priority.BACKGROUND)])
    await marks.mark([Mark(Thing(1), priority=Priority.INTERACTIVE)])
    await marks.mark([Mark(Thing(1), priority=Priority.EXPORT)])
    assert await marks.owed(Priority.INTERACTIVE) == 1
    assert await marks.owed(Priority.BACKGROUND) == 0
    await marks.settle(await take(marks), answer(1))
    assert await nothing_due(marks)


async def test_what_a_cold_start_owes_keeps_its_turn_there(marks: Marks) -> None:
    """Exports that change again wait until it is done, and this one was not answered yet."""
    await marks.mark([Mark(Thing(1), priority=Priority.BACKGROUND)])
    await marks.mark([Mark(Thing(1), priority=Priority.EXPORT)])
    assert await marks.owed(Priority.BACKGROUND) == 1
    assert await marks.owed(Priority.EXPORT) == 0
    await marks.mark([Mark(Thing(1), priority=Priority.ORDINARY)])
    assert await marks.owed(Priority.BACKGROUND) == 0
    assert await marks.owed(Priority.ORDINARY) == 1


async def test_a_batch_is_of_one_kind_in_the_order_of_marking(marks: Marks) -> None:
    await marks.mark([Mark(Thing(9)), Mark(Other(1)), Mark(Thing(1)), Mark(Thing(5))])
    taken = await marks.take(Choice({"thing": 2, "other": 1}))
    assert taken.attempt is not None
    assert taken.attempt.names == ("thing:9", "thing:1")
    assert taken.more
    assert (await take(marks)).names == ("other:1",)
    assert (await take(marks)).names == ("thing:5",)


async def test_a_failed_refresh_is_put_off_and_at_last_buried(
    marks: Marks, cache: redis.Redis
) -> None:
    reason = {"error": "ValueError: no", "traceback": "Traceback ..."}
    await marks.mark([Mark(Thing(1))])
    attempt = await take(marks)
    assert await marks.fail(attempt, [60.0], reason) == (1, 60.0)
    assert await nothing_due(marks)
    cache.zadd(f"{keys.INTERNAL}due:1", {"thing:1": 1})  # a minute later
    attempt = await take(marks)
    assert await marks.fail(attempt, [60.0], reason) == (2, None)
    assert await nothing_due(marks)
    letters: Any = cache.xrange(keys.DEAD_LETTERS)
    [(_, letter)] = letters
    assert letter[b"name"] == b"thing:1"
    assert letter[b"error"] == b"ValueError: no"
    assert letter[b"traceback"] == b"Traceback ..."
    assert letter[b"attempts"] == b"2"
    assert letter[b"consumer"] == b"one"
    assert letter[b"failed_at"]


async def test_a_mark_set_during_the_last_attempt_outlives_the_burial(
    marks: Marks, cache: redis.Redis
) -> None:
    await marks.mark([Mark(Thing(1))])
    attempt = await take(marks)
    await marks.mark([Mark(Thing(1))])
    assert await marks.fail(attempt, [], {"error": "no"}) == (1, None)
    assert cache.xlen(keys.DEAD_LETTERS) == 1
    assert (await take(marks)).names == ("thing:1",)


async def test_only_the_newest_dead_letters_are_kept(marks: Marks, cache: redis.Redis) -> None:
    for number in range(5):
        await marks.mark([Mark(Thing(number))])
        await marks.fail(await take(marks), [], {"error": str(number)})
    letters: Any = cache.xrange(keys.DEAD_LETTERS)
    assert [letter[b"error"] for _, letter in letters] == [b"2", b"3", b"4"]


async def test_leases_are_given_back_by_their_owner_alone(marks: Marks, async_cache: Redis) -> None:
    two = marks_of(async_cache, "two")
    await marks.mark([Mark(Thing(1)), Mark(Other(2))])
    await take(marks)
    assert (await take(two)).names == ("other:2",)
    assert await two.release() == 1
    assert (await take(marks)).names == ("other:2",)
    assert await two.release() == 0
    assert await marks.release(["thing:1"]) == 1
    assert (await take(two)).names == ("thing:1",)


async def test_a_renewed_lease_lasts_and_its_token_is_newer(
    marks: Marks, async_cache: Redis
) -> None:
    hasty = marks_of(async_cache, "hasty", lease=0)
    await marks.mark([Mark(Thing(1))])
    attempt = await take(hasty)
    renewed = await marks.renew(attempt)  # for as long as `marks` leases
    assert renewed.token > attempt.token
    assert await nothing_due(marks)
    assert statuses(await hasty.settle(renewed, answer(1))) == ["settled"]


async def test_a_mark_that_lost_its_details_is_answered_all_the_same(
    marks: Marks, cache: redis.Redis
) -> None:
    """Redis may evict any key, the hash that tells a mark's class and moment among them."""
    await marks.mark([Mark(Thing(1))])
    cache.delete(f"{keys.INTERNAL}mark:thing:1")
    assert statuses(await marks.settle(await take(marks), answer(1))) == ["settled"]
    assert await nothing_due(marks)


async def test_marks_of_a_kind_that_is_not_known_are_left_to_a_newer_daemon(
    marks: Marks, async_cache: Redis
) -> None:
    await marks.mark([Mark(Other(1)), Mark(Thing(1), priority=Priority.BACKGROUND)])
    older = marks_of(async_cache, "older")
    taken = await older.take(Choice({"thing": 10}))
    assert taken.attempt is not None
    assert taken.attempt.names == ("thing:1",)
    await older.settle(taken.attempt, answer(1))
    assert await older.take(Choice({"thing": 10})) == (None, False, None)
    newer = await marks.take(Choice({"thing": 10, "other": 10}))
    assert newer.attempt is not None
    assert newer.attempt.names == ("other:1",)


async def test_a_mark_set_anew_does_not_cut_a_failure_s_delay_short(
    marks: Marks, cache: redis.Redis
) -> None:
    await marks.mark([Mark(Thing(1))])
    await marks.fail(await take(marks), [60.0], {"error": "no"})
    await marks.mark([Mark(Thing(1))])
    assert await nothing_due(marks)
    cache.hdel(f"{keys.INTERNAL}mark:thing:1", "retry_at")  # a minute later
    await marks.mark([Mark(Thing(1))])
    await marks.settle(await take(marks), answer(1))
    await marks.mark([Mark(Thing(1))])
    assert (await take(marks)).names == ("thing:1",)


async def test_what_is_never_given_up_is_put_off_again_and_again(
    marks: Marks, cache: redis.Redis
) -> None:
    await marks.mark([Mark(Thing(1))])
    for attempts in range(1, 8):
        attempt = await take(marks)
        outcome = await marks.fail(attempt, [1.0, 60.0], {"error": "no"}, patient=True)
        assert outcome == (attempts, 1.0 if attempts == 1 else 60.0)
        cache.zadd(f"{keys.INTERNAL}due:1", {"thing:1": 1})  # later
    assert not cache.exists(keys.DEAD_LETTERS)
