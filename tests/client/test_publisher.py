"""The publisher: entries of the stream, and a Redis that fails."""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, NamedTuple

import pytest
import redis
from sqlalchemy.orm import sessionmaker

from statsd import keys
from statsd.addresses.redis_clients import ANSWER_TIMEOUT, CONNECT_TIMEOUT
from statsd.client import AsyncPublisher, Publisher, listen, publisher as publisher_module
from statsd.dev import embedded
from statsd.events import BeltsUpdate, ChallengeSolve, Event, UserUpdate, decode
from tests.client import ctfd
from tests.support.moving_names import moving_name
from tests.support.processes import DEADLINE

Publish = Callable[..., Awaitable[tuple[int, Any]]]

PATIENT: dict[str, Any] = {"socket_timeout": DEADLINE, "socket_connect_timeout": DEADLINE}
"""For tests in which a busy machine must not cost an event."""
EVENTS = [ChallengeSolve(1, 2), UserUpdate(1), UserUpdate(2)]
BOUND = 20.0  # seconds; on an idle machine it is one second


@pytest.fixture(params=["sync", "async"])
def publish(request: pytest.FixtureRequest) -> Publish:
    """Publish with a publisher of its own; return what it returned, and the publisher."""

    async def synchronously(url: str, *events: Event, **options: Any) -> tuple[int, Any]:
        publisher = Publisher.from_url(url, **options)
        try:
            return publisher.publish(*events), publisher
        finally:
            publisher.close()

    async def asynchronously(url: str, *events: Event, **options: Any) -> tuple[int, Any]:
        publisher = AsyncPublisher.from_url(url, **options)
        try:
            return await publisher.publish(*events), publisher
        finally:
            await publisher.aclose()

    return synchronously if request.param == "sync" else asynchronously


class BlackHole:
    """A server that accepts connections and never answers."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self.url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"

    def connections(self) -> int:
        """Count the connections since the last call."""
        self._server.setblocking(False)
        for number in count():
            try:
                self._server.accept()[0].close()
            except BlockingIOError:
                return number
        raise AssertionError


@pytest.fixture
def black_hole() -> Iterator[BlackHole]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield BlackHole(server)


@pytest.fixture
def closed_port() -> str:
    """The URL of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"redis://127.0.0.1:{server.getsockname()[1]}/0"


async def test_events_are_entries_of_the_contract_in_order(
    publish: Publish, redis_server: embedded.Redis, cache: redis.Redis
) -> None:
    published, publisher = await publish(redis_server.url, *EVENTS)
    reply: Any = cache.xrange("stat:events")
    found = [fields for _, fields in reply]
    assert [list(fields) for fields in found] == [[b"data"]] * 3
    assert [decode(fields[b"data"]) for fields in found] == EVENTS
    assert (published, publisher.published, publisher.failed) == (3, 3, 0)


async def test_no_events_are_no_round_trip(publish: Publish, closed_port: str) -> None:
    published, publisher = await publish(closed_port)
    assert (published, publisher.published, publisher.failed) == (0, 0, 0)


async def test_a_redis_that_is_down_is_counted_and_logged_without_payloads(
    publish: Publish, closed_port: str, caplog: pytest.LogCaptureFixture
) -> None:
    published, publisher = await publish(closed_port, *EVENTS)
    assert (published, publisher.published, publisher.failed) == (0, 0, 3)
    assert caplog.record_tuples == [
        (
            "statsd.client",
            logging.WARNING,
            "3 events not published (challenge_solve, user_update): ConnectionError",
        )
    ]


async def test_a_redis_that_never_answers_costs_about_a_second_at_most(
    publish: Publish, black_hole: BlackHole, caplog: pytest.LogCaptureFixture
) -> None:
    start = time.monotonic()
    published, publisher = await publish(black_hole.url, *EVENTS)
    assert time.monotonic() - start < BOUND
    assert black_hole.connections() == 1
    assert CONNECT_TIMEOUT + ANSWER_TIMEOUT <= 1
    assert (published, publisher.failed) == (0, 3)
    assert caplog.messages == [
        "3 events not published (challenge_solve, user_update): TimeoutError"
    ]


async def test_events_that_redis_refuses_are_counted_one_by_one(
    publish: Publish,
    redis_server: embedded.Redis,
    cache: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache.set(keys.STREAM, "no stream")
    published, publisher = await publish(redis_server.url, *EVENTS)
    assert (published, publisher.published, publisher.failed) == (0, 0, 3)
    assert "ResponseError" in caplog.text


def test_a_connection_that_redis_closed_is_made_anew(
    publisher: Publisher, cache: redis.Redis, entries: Callable[[], list[Event]]
) -> None:
    publisher.publish(UserUpdate(1))
    cache.client_kill_filter(_type="normal", skipme=True)
    assert publisher.publish(UserUpdate(2)) == 1
    assert entries() == [UserUpdate(1), UserUpdate(2)]


async def test_a_connection_that_redis_closed_is_made_anew_async(
    async_publisher: AsyncPublisher,
    cache: redis.Redis,
    redis_server: embedded.Redis,
    entries: Callable[[], list[Event]],
) -> None:
    await async_publisher.publish(UserUpdate(1))
    cache.client_kill_filter(_type="normal", skipme=True)
    async with redis.asyncio.Redis.from_url(redis_server.url) as other:
        await other.ping()  # the event loop hears of the closing meanwhile
    assert await async_publisher.publish(UserUpdate(2)) == 1
    assert entries() == [UserUpdate(1), UserUpdate(2)]


async def test_publishing_that_was_given_up_leaves_no_answer_for_the_next(
    redis_server: embedded.Redis,
    cache: redis.Redis,
    entries: Callable[[], list[Event]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("statsd.client.publisher.TOTAL_TIMEOUT", 60.0)
    publisher = AsyncPublisher.from_url(redis_server.url, socket_timeout=60)
    await publisher.publish(UserUpdate(1))
    cache.client_pause(60_000, all=False)  # only writes
    task = asyncio.create_task(publisher.publish(UserUpdate(2)))
    done, _ = await asyncio.wait([task], timeout=0.05)
    task.cancel()
    assert not done
    with pytest.raises(asyncio.CancelledError):
        await task
    cache.client_unpause()
    assert await publisher.publish(UserUpdate(3), UserUpdate(4)) == 2
    assert entries()[-2:] == [UserUpdate(3), UserUpdate(4)]
    await publisher.aclose()


async def test_an_argument_that_is_no_event_raises_type_error(
    publish: Publish, redis_server: embedded.Redis, cache: redis.Redis
) -> None:
    for wrong in ("challenge_solve", {"user_id": 1}, UserUpdate):
        with pytest.raises(TypeError, match="event"):
            await publish(redis_server.url, BeltsUpdate(), wrong)
    assert not cache.exists(keys.STREAM)


async def test_switched_off_nothing_is_published(
    publish: Publish,
    redis_server: embedded.Redis,
    cache: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for off in ("0", "false", "FALSE"):
        monkeypatch.setenv("BACKGROUND_STATS_ENABLED", off)
        published, publisher = await publish(redis_server.url, *EVENTS)
        assert (published, publisher.published, publisher.failed) == (0, 0, 0)
    assert not cache.exists(keys.STREAM)
    assert (await publish(redis_server.url, *EVENTS, enabled=True))[0] == 3
    monkeypatch.setenv("BACKGROUND_STATS_ENABLED", "perhaps")
    assert (await publish(redis_server.url, *EVENTS))[0] == 3  # the default


class Demotion(NamedTuple):
    """A Redis that becomes a replica of another one, which then has its name."""

    url: str
    happens: Callable[[], object]
    primary: "redis.Redis"
    """A client of the Redis that has the name in the end."""


@pytest.fixture
def demotion() -> Iterator[Demotion]:
    with (
        embedded.redis() as before,
        embedded.redis() as after,
        moving_name(before.port) as name,
        redis.Redis.from_url(before.url) as old,
        redis.Redis.from_url(after.url) as new,
    ):

        def happens() -> None:
            name.move_to(after.port)
            old.replicaof("127.0.0.1", after.port)

        yield Demotion(f"redis://127.0.0.1:{name.port}", happens, new)


def test_threads_that_publish_to_a_demoted_redis_lose_nothing_and_raise_nothing(
    demotion: Demotion,
) -> None:
    """Each sees the refusal, and lets the connections go that others use."""
    publisher = Publisher.from_url(demotion.url, **PATIENT)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(publisher.publish, [UserUpdate(1)] * 64))
        demotion.happens()
        list(threads.map(publisher.publish, [UserUpdate(2)] * 400))
    publisher.close()
    assert (publisher.failed, demotion.primary.xlen(keys.STREAM)) == (0, 400)


async def test_tasks_that_publish_to_a_demoted_redis_lose_nothing_and_raise_nothing(
    demotion: Demotion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "TOTAL_TIMEOUT", DEADLINE)
    publisher = AsyncPublisher.from_url(demotion.url, **PATIENT)
    await asyncio.gather(*(publisher.publish(UserUpdate(1)) for _ in range(40)))
    demotion.happens()
    for _ in range(10):
        await asyncio.gather(*(publisher.publish(UserUpdate(2)) for _ in range(40)))
    await publisher.aclose()
    assert (publisher.failed, demotion.primary.xlen(keys.STREAM)) == (0, 400)


async def test_the_address_is_that_of_the_environment(
    publish: Publish,
    redis_server: embedded.Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    assert (await publish(None, *EVENTS))[0] == 3
    monkeypatch.setenv("REDIS_URL", "cache:6379?password=secret")
    published, publisher = await publish(None, *EVENTS)
    assert (published, publisher.failed) == (0, 3)
    assert "REDIS_URL: the value is not an address of Redis" in caplog.text
    assert "secret" not in caplog.text


def test_a_commit_succeeds_without_redis(
    engine: Any, black_hole: BlackHole, closed_port: str
) -> None:
    for name, url in (("one", closed_port), ("two", black_hole.url)):
        publisher = Publisher.from_url(url)
        factory = sessionmaker(engine)
        remove = listen(factory, publisher)
        start = time.monotonic()
        with factory.begin() as session:
            session.query(ctfd.Users).filter_by(id=1).update({"name": name})
        assert time.monotonic() - start < BOUND
        remove()
        publisher.close()
        assert publisher.failed == 1
        with factory() as session:
            assert session.query(ctfd.Users).filter_by(name=name).count() == 1


async def test_an_asynchronous_commit_succeeds_without_redis(
    async_sessions: Any, async_publisher: AsyncPublisher, cache: redis.Redis
) -> None:
    cache.client_pause(60_000, all=False)  # only writes
    start = time.monotonic()
    async with async_sessions() as session, session.begin():
        (await session.get(ctfd.Users, 1)).name = "another"
    assert time.monotonic() - start < BOUND
    cache.client_unpause()
    assert async_publisher.failed == 1
