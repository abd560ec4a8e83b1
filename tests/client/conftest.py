"""A web application's side: its database, its sessions, and what they published."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool

from statsd import keys, schema
from statsd.client import AsyncPublisher, AsyncReader, Publisher, Reader, listen
from statsd.dev import embedded
from statsd.events import Event, decode
from tests.client import ctfd

Work = Callable[[Any], object]
Read = Callable[..., Awaitable[Any]]
Run = Callable[[Work], Awaitable[set[Event]]]


def engine_of(url: str) -> Any:
    return sa.create_engine(sa.engine.make_url(url).set(drivername="postgresql+psycopg2"))


@pytest.fixture(scope="session")
def web_engine(postgres: embedded.Postgres) -> Iterator[Any]:
    """The engine of a database of its own, with the application's tables."""
    server = engine_of(postgres.url)
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("CREATE DATABASE web"))
    server.dispose()
    engine = engine_of(postgres.url_of("web"))
    ctfd.create(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(web_engine: Any) -> Any:
    """The engine of a database with the rows of `ctfd.ROWS`."""
    ctfd.start_over(web_engine)
    return web_engine


@pytest.fixture
def cache(redis_server: embedded.Redis) -> Iterator[redis.Redis]:
    """A client of the real Redis, which is empty."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def entries(cache: redis.Redis) -> Callable[[], list[Event]]:
    """Take what was published since the last call, in order."""

    def take() -> list[Event]:
        with cache.pipeline(transaction=True) as pipeline:
            pipeline.xrange(keys.STREAM)
            pipeline.delete(keys.STREAM)
            found, _ = pipeline.execute()
        return [decode(fields[b"data"]) for _, fields in found]

    return take


@pytest.fixture
def publisher(redis_server: embedded.Redis, cache: redis.Redis) -> Iterator[Publisher]:
    assert not cache.dbsize()
    made = Publisher.from_url(redis_server.url)
    yield made
    made.close()


@pytest.fixture
def sessions(engine: Any, publisher: Publisher) -> Iterator[Any]:
    """A sessionmaker whose sessions publish."""
    factory = sessionmaker(engine)
    remove = listen(factory, publisher)
    yield factory
    remove()


@pytest.fixture
async def async_publisher(
    redis_server: embedded.Redis, cache: redis.Redis
) -> AsyncIterator[AsyncPublisher]:
    assert not cache.dbsize()
    made = AsyncPublisher.from_url(redis_server.url)
    yield made
    await made.aclose()


@pytest.fixture
async def async_engine(engine: Any) -> AsyncIterator[Any]:
    made = create_async_engine(engine.url.set(drivername="postgresql+asyncpg"), poolclass=NullPool)
    yield made
    await made.dispose()


@pytest.fixture
def async_sessions(async_engine: Any, async_publisher: AsyncPublisher) -> Iterator[Any]:
    """A factory of AsyncSessions that publish, of the form that 1.4 has too."""
    factory: Any = sessionmaker(async_engine, class_=AsyncSession)
    remove = listen(factory, async_publisher)
    yield factory
    remove()


@pytest.fixture
def required(engine: Any) -> None:
    """All challenges of the dojo are required; the second one is solved once."""
    with engine.begin() as connection:
        connection.execute(sa.update(schema.dojo_challenges).values(required=True, id="level"))


@pytest.fixture
def reader(engine: Any, redis_server: embedded.Redis) -> Iterator[Reader]:
    made = Reader.from_url(engine, redis_server.url)
    yield made
    made.close()


@pytest.fixture
async def async_reader(
    async_engine: Any, redis_server: embedded.Redis
) -> AsyncIterator[AsyncReader]:
    made = AsyncReader.from_url(async_engine, redis_server.url)
    yield made
    await made.aclose()


@pytest.fixture(params=["sync", "async"])
def read(request: pytest.FixtureRequest) -> Read:
    """Call a method of a reader, by its name."""
    if request.param == "async":
        async_reader = request.getfixturevalue("async_reader")

        async def aread(method: str, *arguments: Any, **named: Any) -> Any:
            return await getattr(async_reader, method)(*arguments, **named)

        return aread
    reader = request.getfixturevalue("reader")

    async def read(method: str, *arguments: Any, **named: Any) -> Any:
        return getattr(reader, method)(*arguments, **named)

    return read


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    """Do something in a session, commit, and return what was published, each event once.

    Fails where anything was published before the commit.
    """
    entries = request.getfixturevalue("entries")

    def finish() -> set[Event]:
        published = entries()
        assert len(published) == len(set(published))
        return set(published)

    async def in_session(work: Work) -> set[Event]:
        with request.getfixturevalue("sessions")() as session:
            work(session)
            session.flush()
            assert not entries()
            session.commit()
        return finish()

    async def in_async_session(work: Work) -> set[Event]:
        async with request.getfixturevalue("async_sessions")() as session:
            await session.run_sync(work)
            await session.flush()
            assert not entries()
            await session.commit()
        return finish()

    if request.param == "sync":
        request.getfixturevalue("sessions")
        return in_session
    request.getfixturevalue("async_sessions")
    return in_async_session
