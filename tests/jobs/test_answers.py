"""What an answer says of its values: whose they are, of which moment, and how long they rest."""

from typing import Any

import orjson
import pytest
import redis

from statsd import keys
from statsd.job import SECOND, Priority
from statsd.jobs import queue as queues
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.pending import STEP, AcknowledgedSolve, Consequence, PendingJob
from statsd.jobs.queue import Queue
from tests.support.plain_jobs import Other, Thing, lease_due, nothing_due
from tests.support.processes import statuses

ONE, TWO = "stats:thing:1", "stats:thing:2"
OWNER = Thing(1).name
pytestmark = pytest.mark.every_redis


async def leased(queue: Queue, job: Thing | Other) -> Attempt:
    await queue.enqueue([PendingJob(job)])
    return await lease_due(queue)


def as_of(cache: "redis.Redis", key: str) -> int:
    raw: Any = cache.get(keys.updated(key))
    seconds, _, rest = raw.decode().partition(".")
    return int(seconds) * SECOND + int(rest)


async def test_bytes_are_json_already(queue: Queue, cache: "redis.Redis") -> None:
    attempt = await leased(queue, Thing(1))
    await queue.complete(attempt, {OWNER: Answer({ONE: b'{"a": 1}', TWO: {"b": 2}})})
    assert cache.mget(ONE, TWO) == [b'{"a": 1}', b'{"b":2}']


async def test_values_of_another_job_are_written_for_it(queue: Queue, cache: "redis.Redis") -> None:
    """Its list of keys stays as it is, and its next answer deletes what it no longer has."""
    attempt = await leased(queue, Thing(1))
    await queue.complete(attempt, {OWNER: Answer({ONE: 1, TWO: 1})})
    attempt = await leased(queue, Other(1))
    done = await queue.complete(attempt, {Other(1).name: Answer({TWO: 2}, owner=OWNER)}, took=2.0)
    assert statuses(done) == ["completed"]
    assert cache.mget(ONE, TWO) == [b"1", b"2"]
    owners = dict.fromkeys([ONE.encode(), TWO.encode()], OWNER.encode())
    assert cache.hgetall(keys.KEY_OWNERS) == owners
    assert cache.hgetall(keys.KEY_INDEX) == {OWNER.encode(): orjson.dumps([ONE, TWO])}
    assert cache.hget(keys.LAST_RUNS, OWNER) == f"{attempt.token}|2000000||".encode()
    assert not cache.hexists(keys.LAST_RUNS, Other(1).name)
    attempt = await leased(queue, Thing(1))
    await queue.complete(attempt, {OWNER: Answer({ONE: 3})})
    assert cache.mget(ONE, TWO, keys.updated(TWO)) == [b"3", None, None]


async def test_a_value_of_a_later_moment_has_its_as_of(queue: Queue, cache: "redis.Redis") -> None:
    attempt = await leased(queue, Thing(1))
    await queue.enqueue([])
    later = attempt.token + 1
    await queue.complete(attempt, {OWNER: Answer({ONE: 1, TWO: 1}, as_of={TWO: later})})
    assert (as_of(cache, ONE), as_of(cache, TWO)) == (attempt.token, later)


async def test_a_value_is_compared_by_its_own_moment(queue: Queue, cache: "redis.Redis") -> None:
    """The first attempt is older, and has read one of its values after the second attempt."""
    first = await leased(queue, Thing(1))
    second = await leased(queue, Other(1))
    await queue.enqueue([])
    later = second.token + 1
    await queue.complete(second, {Other(1).name: Answer({ONE: 2, TWO: 2}, owner=OWNER)})
    await queue.complete(first, {OWNER: Answer({ONE: 1, TWO: 1}, as_of={TWO: later})})
    assert cache.mget(ONE, TWO) == [b"2", b"1"]
    assert (as_of(cache, ONE), as_of(cache, TWO)) == (second.token, later)


async def test_an_answer_may_be_older_if_it_says_so(queue: Queue, cache: "redis.Redis") -> None:
    attempt = await leased(queue, Thing(1))
    cache.hset(keys.CLOCK, "last", str(attempt.token + 120 * SECOND))
    assert statuses(await queue.complete(attempt, {OWNER: Answer({ONE: 1})})) == ["stale"]
    assert statuses(await queue.complete(attempt, {OWNER: Answer({ONE: 1}, oldest=100.0)})) == [
        "stale"
    ]
    assert cache.get(ONE) is None
    assert statuses(await queue.complete(attempt, {OWNER: Answer({ONE: 1}, oldest=3600.0)})) == [
        "completed"
    ]
    assert cache.get(ONE) == b"1"


async def test_the_cooldown_of_an_answer_comes_before_that_of_its_kind(queue: Queue) -> None:
    attempt = await leased(queue, Thing(1))
    answers = {OWNER: Answer({ONE: 1}, cooldown=600.0)}
    assert statuses(await queue.complete(attempt, answers)) == ["completed"]
    await queue.enqueue([PendingJob(Thing(1))])
    assert await nothing_due(queue)


async def test_an_answer_for_another_job_rests_without_values(queue: Queue) -> None:
    """Everything that changed still rests; the job looks again when something is ready."""
    attempt = await leased(queue, Other(1))
    await queue.enqueue([PendingJob(Other(1))])
    done = await queue.complete(attempt, {Other(1).name: Answer({}, owner=OWNER, cooldown=600.0)})
    assert statuses(done) == ["requeued"]
    assert await nothing_due(queue)


async def test_a_large_answer_is_complete_with_its_last_piece(
    queue: Queue, cache: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keys are one list, and one outcome is returned, however many pieces there are."""
    monkeypatch.setattr(queues, "PART", 10)
    values = {f"stats:thing:{number}": "x" * number for number in range(20)}
    for _ in range(2):
        attempt = await leased(queue, Thing(1))
        [done] = await queue.complete(attempt, {OWNER: Answer(values)})
        assert done.status == "completed"
        assert {key: orjson.loads(cache.get(key) or b"") for key in values} == values
        assert orjson.loads(cache.hget(keys.KEY_INDEX, OWNER) or b"") == sorted(values)
    assert not cache.exists(keys.job(OWNER))


async def test_a_large_answer_is_fenced_in_every_piece(
    queue: Queue, cache: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "PART", 1)
    attempt = await leased(queue, Thing(1))
    await queue.release()
    done = await queue.complete(attempt, {OWNER: Answer({ONE: 1, TWO: 2})})
    assert statuses(done) == ["fenced"]
    assert cache.mget(ONE, TWO) == [None, None]
    assert cache.exists(keys.job(OWNER))


def calls(cache: "redis.Redis") -> int:
    found: Any = cache.info("commandstats")
    return int(found["cmdstat_evalsha"]["calls"])


async def test_many_consequences_are_enqueued_in_pieces_before_the_job_is_completed(
    queue: Queue, cache: redis.Redis
) -> None:
    number = 2 * STEP + 1
    await queue.enqueue([PendingJob(Thing(0))])
    attempt = await lease_due(queue)
    consequences: list[Consequence] = [
        *(PendingJob(Thing(each)) for each in range(1, number)),
        AcknowledgedSolve(7),
    ]
    before = calls(cache)
    answers = {"thing:0": Answer({ONE: 1}, iter(consequences))}
    assert statuses(await queue.complete(attempt, answers)) == ["completed"]
    assert calls(cache) == before + 3
    assert cache.zcard(keys.due(Priority.INTERACTIVE)) == number - 1
    assert cache.zscore(keys.ACKNOWLEDGED_SOLVES, 7) == 7
