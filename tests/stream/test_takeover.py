"""Entries of dead consumers are taken over; dead consumers without entries are removed."""

from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.jobs.attempt import Answer
from statsd.jobs.queue import LeaseRequest, Queue
from statsd.servers.errors import is_transient
from statsd.stream.event_stream import Stream
from statsd.stream.takeover import PAGE, Takeover

pytestmark = pytest.mark.every_redis


class Consumer:
    """Counts the requests to read its pending entries again."""

    def __init__(self) -> None:
        self.requests = 0
        self.kept: list[str] = []

    def read_again(self) -> None:
        self.requests += 1


@pytest.fixture
async def stream(async_cache: Redis) -> Stream:
    stream = Stream(async_cache, async_cache, "living", block=0.05, dead_limit=10)
    await stream.ensure_group()
    return stream


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


@pytest.fixture
def takeover(stream: Stream, async_cache: Redis, consumer: Consumer) -> Takeover:
    queue = Queue(async_cache, "living", lease=30, dead_limit=10)
    return Takeover(stream, queue, consumer, interval=0, idle=0, gone=3600)


def leave_pending(cache: "redis.Redis", events: int) -> list[str]:
    """Read entries as a consumer that dies afterwards."""
    ids = [str(cache.xadd(keys.STREAM, {"data": "{}"})) for _ in range(events)]
    cache.xreadgroup(keys.GROUP, "dead", {keys.STREAM: ">"})
    return ids


def holders(cache: "redis.Redis") -> dict[bytes, int]:
    found: Any = cache.xinfo_consumers(keys.STREAM, keys.GROUP)
    return {each["name"]: each["pending"] for each in found}


async def test_entries_of_a_dead_consumer_become_pending_here_and_are_read(
    takeover: Takeover, stream: Stream, consumer: Consumer, cache: "redis.Redis"
) -> None:
    ids = leave_pending(cache, 3)
    await takeover.step()
    assert consumer.requests == 1
    entries = await stream.read("0", 100)
    assert len(entries) == len(ids)


async def test_many_entries_are_taken_over_page_by_page(
    takeover: Takeover, consumer: Consumer, cache: "redis.Redis"
) -> None:
    leave_pending(cache, PAGE + 1)
    await takeover.step()
    assert holders(cache) == {b"living": PAGE, b"dead": 1}
    await takeover.step()
    assert holders(cache) == {b"living": PAGE + 1, b"dead": 0}
    assert consumer.requests == 2


async def test_own_pending_entries_are_not_counted_as_taken_over(
    takeover: Takeover, consumer: Consumer, cache: "redis.Redis"
) -> None:
    cache.xadd(keys.STREAM, {"data": "{}"})
    cache.xreadgroup(keys.GROUP, "living", {keys.STREAM: ">"})
    await takeover.step()
    assert consumer.requests == 0
    leave_pending(cache, 2)
    await takeover.step()
    assert consumer.requests == 1
    assert holders(cache) == {b"living": 3, b"dead": 0}


async def test_entries_read_recently_are_not_taken_over(
    stream: Stream, async_cache: Redis, consumer: Consumer, cache: "redis.Redis"
) -> None:
    queue = Queue(async_cache, "living", lease=30, dead_limit=10)
    takeover = Takeover(stream, queue, consumer, interval=0, idle=60)
    leave_pending(cache, 3)
    await takeover.step()
    assert consumer.requests == 0
    assert holders(cache)[b"dead"] == 3


async def test_pending_entries_that_were_deleted_lead_to_a_reconciliation(
    takeover: Takeover, async_cache: Redis, cache: "redis.Redis"
) -> None:
    queue = Queue(async_cache, "living", lease=30, dead_limit=10)
    await queue.enqueue([])
    first = (await queue.lease(LeaseRequest({"reconcile": 1}))).attempt  # from the new clock
    assert first is not None
    await queue.complete(first, {"reconcile": Answer({})})
    assert (await queue.lease(LeaseRequest({"reconcile": 1}))).attempt is None
    leave_pending(cache, 3)
    cache.xtrim(keys.STREAM, maxlen=0)
    await takeover.step()
    assert cache.xpending(keys.STREAM, keys.GROUP)["pending"] == 0
    attempt = (await queue.lease(LeaseRequest({"reconcile": 1}))).attempt
    assert attempt is not None
    assert attempt.names == ("reconcile",)


async def test_a_silent_consumer_is_removed_only_without_pending_entries(
    stream: Stream, async_cache: Redis, consumer: Consumer, cache: "redis.Redis"
) -> None:
    queue = Queue(async_cache, "living", lease=30, dead_limit=10)
    takeover = Takeover(stream, queue, consumer, interval=0, idle=60, gone=-1)
    leave_pending(cache, 1)
    cache.xgroup_createconsumer(keys.STREAM, keys.GROUP, "idle")
    cache.xgroup_createconsumer(keys.STREAM, keys.GROUP, "living")
    await takeover.step()
    assert holders(cache) == {b"dead": 1, b"living": 0}


async def test_entries_postponed_by_a_living_consumer_stay_its_own(
    stream: Stream, async_cache: Redis, consumer: Consumer, cache: "redis.Redis"
) -> None:
    postponed, other = [str(cache.xadd(keys.STREAM, {"data": "{}"}), "ascii") for _ in range(2)]  # type: ignore[arg-type]
    await stream.read(">", 10)
    for entry in (postponed, other):  # Redis regards them as read long ago
        cache.xclaim(keys.STREAM, keys.GROUP, "living", 0, [entry], idle=60_000, justid=True)
    consumer.kept = [postponed]
    queue = Queue(async_cache, "living", lease=30, dead_limit=10)
    await Takeover(stream, queue, consumer, interval=0, idle=3600).step()
    cache.xautoclaim(keys.STREAM, keys.GROUP, "another", 30_000, justid=True)
    assert holders(cache) == {b"living": 1, b"another": 1}
    assert [entry.id for entry in await stream.read("0", 10)] == [postponed]


async def test_a_deleted_entry_that_was_kept_enqueues_a_reconcile(
    takeover: Takeover, stream: Stream, consumer: Consumer, cache: "redis.Redis"
) -> None:
    entry: Any = cache.xadd(keys.STREAM, {"data": "{}"})
    await stream.read(">", 10)
    consumer.kept = [entry.decode()]
    cache.xdel(keys.STREAM, entry)
    await takeover.step()
    assert consumer.requests == 1
    assert cache.exists(keys.job("reconcile"))


async def test_a_missing_stream_is_a_transient_error(
    takeover: Takeover, cache: "redis.Redis"
) -> None:
    """The consumer creates it again, but may be waiting for PostgreSQL."""
    cache.flushall()
    with pytest.raises(redis.ResponseError, match="NOGROUP") as raised:
        await takeover.step()
    assert is_transient(raised.value)
