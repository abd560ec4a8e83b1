"""What has been accepted is told from what is under way, on a real stream."""

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.consistency.in_flight import PATIENCE, Intake, Wait, intake

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


async def test_where_there_is_no_stream_or_no_group_nothing_is_known(
    async_cache: Redis, cache: "redis.Redis"
) -> None:
    assert (await intake(async_cache))[1:] == (None, (0, 0), None)
    publish(cache, "5-1")
    cache.xgroup_create(keys.STREAM, "another", "0")
    seen = await intake(async_cache)
    assert seen[1:] == (None, (0, 0), None)
    assert not seen.has_read((0, 0))


@pytest.mark.usefixtures("group")
async def test_an_entry_is_accepted_once_it_was_read_and_acknowledged(
    async_cache: Redis, cache: "redis.Redis"
) -> None:
    for entry in ("5-1", "5-2", "6-0"):
        publish(cache, entry)
    assert (await intake(async_cache))[1:] == ((6, 0), (0, 0), None)
    read(cache, 2)
    seen = await intake(async_cache)
    assert seen[1:] == ((6, 0), (5, 2), (5, 1))
    assert seen.has_read((5, 2))
    assert not seen.has_read((6, 0))
    acknowledge(cache, "5-1")
    seen = await intake(async_cache)
    assert seen.has_accepted((5, 1))
    assert not seen.has_accepted((5, 2))


@pytest.mark.usefixtures("group")
async def test_what_is_left_in_the_stream_once_acknowledged_is_accepted(
    async_cache: Redis, cache: "redis.Redis"
) -> None:
    publish(cache, "5-1")
    read(cache, 1)
    acknowledge(cache, "5-1")
    seen = await intake(async_cache)
    assert seen.has_accepted((5, 1))


@pytest.mark.usefixtures("group")
async def test_a_stream_that_was_made_anew_need_not_come_as_far(
    async_cache: Redis, cache: "redis.Redis"
) -> None:
    seen = await intake(async_cache)
    assert seen.has_accepted((9, 9))
    publish(cache, "5-1")
    seen = await intake(async_cache)
    assert not seen.has_accepted((9, 9))


@pytest.mark.usefixtures("group")
async def test_what_was_deleted_unread_or_accepted_by_a_group_before_is_not_waited_for(
    async_cache: Redis, cache: "redis.Redis"
) -> None:
    publish(cache, "5-1")
    publish(cache, "5-2")
    cache.xdel(keys.STREAM, "5-2")
    assert not (await intake(async_cache)).has_accepted((5, 2))
    read(cache, 1)
    acknowledge(cache, "5-1")
    assert (await intake(async_cache)).has_accepted((5, 2))
    cache.xdel(keys.STREAM, "5-1")
    cache.xgroup_destroy(keys.STREAM, keys.GROUP)
    cache.xgroup_create(keys.STREAM, keys.GROUP, "0")
    assert (await intake(async_cache)).has_accepted((5, 2))


def at(moment: int, read: int, pending: int | None = None) -> Intake:
    return Intake(moment, (read, 0), (read, 0), None if pending is None else (pending, 0))


def test_a_wait_goes_to_where_the_stream_ends_once_the_grace_is_over() -> None:
    wait = Wait(100)
    assert wait.go_on(at(109, 6), GRACE) == wait
    assert wait.go_on(Intake(120), GRACE) == wait
    ended = wait.go_on(at(110, 6), GRACE)
    assert ended == Wait(110, (6, 0))
    assert ended.go_on(at(200, 7), GRACE) == ended
    assert not wait.is_over(at(200, 6))
    assert ended.is_over(at(110, 6))
    assert not ended.is_over(Intake(110))
    assert not ended.is_over(at(111, 6, pending=6))
    assert ended.is_over(at(111, 8, pending=7))


def test_what_stays_pending_is_not_waited_for_for_ever_what_is_unread_is() -> None:
    wait = Wait(100, (6, 0))
    assert not wait.is_over(at(99 + PATIENCE, 6, pending=5))
    assert wait.is_over(at(100 + PATIENCE, 6, pending=5))
    assert not wait.is_over(Intake(100 + PATIENCE, (6, 0), (5, 0), (5, 0)))


def test_a_moment_of_a_clock_that_was_lost_is_long_ago() -> None:
    assert Wait(10_000).go_on(at(100, 6), GRACE) == Wait(100, (6, 0))
