"""Accepted entries are distinguished from unread and pending ones, on a real stream."""

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.consistency.stream_position import (
    PENDING_TIMEOUT,
    AcceptanceWait,
    StreamPosition,
    stream_position,
)

pytestmark = pytest.mark.every_redis

GRACE = 10


@pytest.fixture
def group(cache: "redis.Redis") -> None:
    cache.xgroup_create(keys.STREAM, keys.GROUP, "0", mkstream=True)


def publish(cache: "redis.Redis", entry: str) -> None:
    cache.xadd(keys.STREAM, {"data": b"{}"}, id=entry)


def read(cache: "redis.Redis", count: int) -> None:
    cache.xreadgroup(keys.GROUP, "one", {keys.STREAM: ">"}, count=count)


def acknowledge(cache: "redis.Redis", *entries: str) -> None:
    cache.xack(keys.STREAM, keys.GROUP, *entries)


async def test_without_a_stream_or_a_group_there_is_no_position(
    async_cache: Redis, cache: "redis.Redis"
) -> None:
    assert (await stream_position(async_cache))[1:] == (None, (0, 0), None)
    publish(cache, "5-1")
    cache.xgroup_create(keys.STREAM, "another", "0")
    position = await stream_position(async_cache)
    assert position[1:] == (None, (0, 0), None)
    assert not position.has_read((0, 0))


@pytest.mark.usefixtures("group")
async def test_an_entry_is_accepted_once_it_is_read_and_acknowledged(
    async_cache: Redis, cache: "redis.Redis"
) -> None:
    for entry in ("5-1", "5-2", "6-0"):
        publish(cache, entry)
    assert (await stream_position(async_cache))[1:] == ((6, 0), (0, 0), None)
    read(cache, 2)
    position = await stream_position(async_cache)
    assert position[1:] == ((6, 0), (5, 2), (5, 1))
    assert position.has_read((5, 2))
    assert not position.has_read((6, 0))
    acknowledge(cache, "5-1")
    position = await stream_position(async_cache)
    assert position.has_accepted((5, 1))
    assert not position.has_accepted((5, 2))


@pytest.mark.usefixtures("group")
async def test_an_acknowledged_entry_that_is_still_in_the_stream_is_accepted(
    async_cache: Redis, cache: "redis.Redis"
) -> None:
    publish(cache, "5-1")
    read(cache, 1)
    acknowledge(cache, "5-1")
    position = await stream_position(async_cache)
    assert position.has_accepted((5, 1))


@pytest.mark.usefixtures("group")
async def test_a_new_stream_need_not_reach_the_end_of_the_old_one(
    async_cache: Redis, cache: "redis.Redis"
) -> None:
    position = await stream_position(async_cache)
    assert position.has_accepted((9, 9))
    publish(cache, "5-1")
    position = await stream_position(async_cache)
    assert not position.has_accepted((9, 9))


@pytest.mark.usefixtures("group")
async def test_entries_deleted_unread_or_accepted_by_a_former_group_are_not_waited_for(
    async_cache: Redis, cache: "redis.Redis"
) -> None:
    publish(cache, "5-1")
    publish(cache, "5-2")
    cache.xdel(keys.STREAM, "5-2")
    assert not (await stream_position(async_cache)).has_accepted((5, 2))
    read(cache, 1)
    acknowledge(cache, "5-1")
    assert (await stream_position(async_cache)).has_accepted((5, 2))
    cache.xdel(keys.STREAM, "5-1")
    cache.xgroup_destroy(keys.STREAM, keys.GROUP)
    cache.xgroup_create(keys.STREAM, keys.GROUP, "0")
    assert (await stream_position(async_cache)).has_accepted((5, 2))


def at(moment: int, read: int, pending: int | None = None) -> StreamPosition:
    return StreamPosition(moment, (read, 0), (read, 0), None if pending is None else (pending, 0))


def test_after_the_grace_time_a_wait_lasts_until_the_stream_s_end_is_accepted() -> None:
    wait = AcceptanceWait(100)
    assert wait.updated(at(109, 6), GRACE) == wait
    assert wait.updated(StreamPosition(120), GRACE) == wait
    ended = wait.updated(at(110, 6), GRACE)
    assert ended == AcceptanceWait(110, (6, 0))
    assert ended.updated(at(200, 7), GRACE) == ended
    assert not wait.is_over(at(200, 6))
    assert ended.is_over(at(110, 6))
    assert not ended.is_over(StreamPosition(110))
    assert not ended.is_over(at(111, 6, pending=6))
    assert ended.is_over(at(111, 8, pending=7))


def test_pending_entries_time_out_and_unread_ones_do_not() -> None:
    wait = AcceptanceWait(100, (6, 0))
    assert not wait.is_over(at(99 + PENDING_TIMEOUT, 6, pending=5))
    assert wait.is_over(at(100 + PENDING_TIMEOUT, 6, pending=5))
    assert not wait.is_over(StreamPosition(100 + PENDING_TIMEOUT, (6, 0), (5, 0), (5, 0)))


def test_a_wait_begun_by_a_lost_clock_begins_anew() -> None:
    assert AcceptanceWait(10_000).updated(at(100, 6), GRACE) == AcceptanceWait(100, (6, 0))
