"""What has been accepted is told from what is under way, on a real stream."""

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.accepted import PATIENCE, Intake, Wait, intake

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
    assert await intake(async_cache) is None
    publish(cache, "5-1")
    cache.xgroup_create(keys.STREAM, "another", "0")
    assert await intake(async_cache) is None


@pytest.mark.usefixtures("group")
async def test_an_entry_is_accepted_once_it_was_read_and_acknowledged(
    async_cache: Redis, cache: "redis.Redis"
) -> None:
    for entry in ("5-1", "5-2", "6-0"):
        publish(cache, entry)
    assert await intake(async_cache) == Intake((6, 0), (0, 0), None)
    read(cache, 2)
    seen = await intake(async_cache)
    assert seen == Intake((6, 0), (5, 2), (5, 1))
    assert seen.has_read((5, 2))
    assert not seen.has_read((6, 0))
    acknowledge(cache, "5-1")
    seen = await intake(async_cache)
    assert seen is not None
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
    assert seen is not None
    assert seen.has_accepted((5, 1))


@pytest.mark.usefixtures("group")
async def test_a_stream_that_was_made_anew_need_not_come_as_far(
    async_cache: Redis, cache: "redis.Redis"
) -> None:
    seen = await intake(async_cache)
    assert seen is not None
    assert seen.has_accepted((9, 9))
    publish(cache, "5-1")
    seen = await intake(async_cache)
    assert seen is not None
    assert not seen.has_accepted((9, 9))


def test_a_wait_goes_to_where_the_stream_ends_once_the_grace_is_over() -> None:
    seen = Intake((6, 0), (6, 0), None)
    wait = Wait(100)
    assert wait.go_on(seen, 109, GRACE) == wait
    assert wait.go_on(None, 120, GRACE) == wait
    ended = wait.go_on(seen, 110, GRACE)
    assert ended == Wait(110, (6, 0))
    assert ended.go_on(Intake((7, 0), (7, 0), None), 200, GRACE) == ended
    assert not wait.is_over(seen, 200)
    assert ended.is_over(seen, 110)
    assert not ended.is_over(None, 110)
    assert not ended.is_over(Intake((6, 0), (6, 0), (6, 0)), 111)
    assert ended.is_over(Intake((7, 0), (7, 0), (6, 1)), 111)


def test_what_stays_pending_is_not_waited_for_for_ever_what_is_unread_is() -> None:
    wait = Wait(100, (6, 0))
    assert not wait.is_over(Intake((6, 0), (6, 0), (5, 0)), 99 + PATIENCE)
    assert wait.is_over(Intake((6, 0), (6, 0), (5, 0)), 100 + PATIENCE)
    assert not wait.is_over(Intake((6, 0), (5, 0), (5, 0)), 100 + PATIENCE)


def test_a_moment_of_a_clock_that_was_lost_is_long_ago() -> None:
    seen = Intake((6, 0), (6, 0), None)
    assert Wait(10_000).go_on(seen, 100, GRACE) == Wait(100, (6, 0))
