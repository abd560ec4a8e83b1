"""Answers in parts: each part is completed at once, and no part is computed twice."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators import Cost
from statsd.job import SECOND, Job, register_kind
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.executor import Executor
from statsd.jobs.parts import Parts
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import LeaseRequest, Queue
from statsd.jobs.wakeup import WakeUp
from statsd.jobs.worker import Worker
from statsd.observability.counters import Counters

TOO_OLD = 61 * SECOND


class Piece(Job, frozen=True):
    kind: ClassVar[str] = "piece"
    number: int


register_kind(Piece)

PIECES = [Piece(number) for number in range(1, 5)]


def key_of(piece: Piece) -> str:
    return f"stats:piece:{piece.number}"


class Pieces:
    """Answers one piece after the other, and calls `before` for each."""

    def __init__(self, before: Callable[[Piece], None]) -> None:
        self.computed: Counter[Piece] = Counter()
        self._before = before

    async def execute(self, wanted: Sequence[Piece], _attempt: Attempt) -> Parts:
        for piece in sorted(wanted, key=lambda piece: piece.number):
            self._before(piece)
            self.computed[piece] += 1
            yield {piece: Answer({key_of(piece): piece.number})}


def worker_of(
    queue: Queue, pieces: Pieces, counters: Counters | None = None, delays: Sequence[float] = (60,)
) -> Worker:
    executors = {Piece.kind: Executor(pieces.execute, Cost(batch=10))}
    return Worker(queue, executors, WakeUp(), lease=30, retry_delays=delays, counters=counters)


def cached(cache: "redis.Redis") -> list[Piece]:
    return [piece for piece in PIECES if cache.exists(key_of(piece))]


def leased_names(cache: "redis.Redis") -> set[Any]:
    return set(cache.hkeys(keys.LEASES))


async def enqueue(queue: Queue, pieces: Sequence[Piece] = PIECES) -> None:
    await queue.enqueue([PendingJob(piece) for piece in pieces])


async def test_a_part_is_cached_before_the_next_is_computed(
    queue: Queue, cache: "redis.Redis"
) -> None:
    counts = []
    pieces = Pieces(lambda _: counts.append((len(cached(cache)), len(leased_names(cache)))))
    await enqueue(queue)
    await worker_of(queue, pieces).step()
    assert counts == [(0, 4), (1, 3), (2, 2), (3, 1)]
    assert cached(cache) == PIECES
    assert not leased_names(cache)


async def test_after_a_failure_completed_parts_stay_and_none_is_computed_twice(
    queue: Queue, cache: "redis.Redis", caplog: pytest.LogCaptureFixture
) -> None:
    broken = PIECES[1]

    def break_one(piece: Piece) -> None:
        if piece == broken:
            raise ValueError("this one is broken")

    pieces, counters = Pieces(break_one), Counters()
    await enqueue(queue)
    with caplog.at_level(logging.INFO, "statsd.jobs.worker"):
        await worker_of(queue, pieces, counters).step()
    whole = [piece for piece in PIECES if piece != broken]
    assert cached(cache) == whole
    assert pieces.computed == Counter(whole)
    assert counters.jobs == len(whole)
    assert counters.failures[Piece.kind] == 1
    completed = [record for record in caplog.records if record.getMessage() == "jobs completed"]
    assert sum(vars(record)["jobs"] for record in completed) == len(whole)
    assert cache.hget(keys.job(broken.name), "attempts") == b"1"


async def test_only_the_part_that_took_over_a_minute_is_computed_again(
    queue: Queue, cache: "redis.Redis"
) -> None:
    clock = keys.CLOCK
    pieces: Pieces

    def take_long(piece: Piece) -> None:
        if piece == PIECES[2] and not pieces.computed[piece]:
            newest: Any = cache.hget(clock, "last")
            cache.hset(clock, "last", int(newest) + TOO_OLD)

    pieces = Pieces(take_long)
    await enqueue(queue)
    await worker_of(queue, pieces).step()
    assert cached(cache) == PIECES
    assert pieces.computed == Counter(PIECES) + Counter([PIECES[2]])
    assert not leased_names(cache)


async def test_when_a_server_is_lost_only_the_jobs_left_are_released(
    queue: Queue, cache: "redis.Redis", async_cache: Redis
) -> None:
    """Another worker of the same owner may have leased a completed job again."""
    other = Queue(async_cache, "one", lease=30, dead_limit=3)

    def lose(piece: Piece) -> None:
        if piece == PIECES[2]:
            raise ConnectionError("the server is gone")

    worker = worker_of(queue, Pieces(lose))
    await enqueue(queue)
    with pytest.raises(ConnectionError):
        await worker.step()
    await enqueue(other, PIECES[:1])
    leased = (await other.lease(LeaseRequest({Piece.kind: 1}))).attempt
    assert leased is not None
    assert leased.names == (PIECES[0].name,)
    await worker.recover()
    assert leased_names(cache) == {PIECES[0].name.encode()}
    pieces = Pieces(lambda _: None)
    await worker_of(queue, pieces).step()
    assert pieces.computed == Counter(PIECES[2:])


async def test_the_keys_of_a_job_without_an_answer_are_removed(
    queue: Queue, cache: "redis.Redis"
) -> None:
    await enqueue(queue)
    await worker_of(queue, Pieces(lambda _: None)).step()

    async def fewer(wanted: Sequence[Piece], _attempt: Attempt) -> Parts:
        yield {}
        yield {wanted[0]: Answer({key_of(wanted[0]): 7})}

    await enqueue(queue)
    executors = {Piece.kind: Executor(fewer, Cost(batch=10))}
    await Worker(queue, executors, WakeUp(), lease=30, retry_delays=()).step()
    assert len(cached(cache)) == 1
    assert cache.hlen(keys.KEY_INDEX) == 1
    assert not leased_names(cache)
