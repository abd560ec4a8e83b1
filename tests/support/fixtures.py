"""Fixtures for all tests: an empty Redis, a fresh database, a web application, a daemon's parts."""

from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import psycopg2
import pytest
import redis
import redis.asyncio
import sqlalchemy as sa
from hypothesis import HealthCheck, settings

from statsd.client import Publisher, Reader, listen
from statsd.dev import embedded
from statsd.jobs.queue import Queue
from statsd.servers.database import Database
from tests.support import poolers
from tests.support.certificates import Authority
from tests.support.commands import Run, run_with
from tests.support.daemon_parts import Parts
from tests.support.dojo_site import DojoSite
from tests.support.plain_jobs import reconciled_queue
from tests.support.webapp import Dojo, WebApp

settings.register_profile("any pace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any pace")

_numbers = count(1)


@pytest.fixture
def cache(redis_server: embedded.Redis) -> Iterator["redis.Redis"]:
    """A client of an empty Redis."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield client


@pytest.fixture
async def async_cache(cache: "redis.Redis") -> AsyncIterator["redis.asyncio.Redis"]:
    """A client of the same Redis for asyncio."""
    arguments = cache.get_connection_kwargs()
    async with redis.asyncio.Redis(
        host=arguments["host"], port=arguments["port"], protocol=2
    ) as client:
        yield client


@pytest.fixture
async def queue(async_cache: "redis.asyncio.Redis") -> Queue:
    """The queue of the daemon `one`; the reconcile of the new clock is completed."""
    return await reconciled_queue(async_cache, "one")


@pytest.fixture
def empty_database(postgres: embedded.Postgres) -> Iterator[str]:
    """The URL of a database without tables."""
    name = f"empty_{next(_numbers)}"
    _execute(postgres, f"CREATE DATABASE {name}")
    yield postgres.url_of(name)
    _execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(postgres: embedded.Postgres, contract_template: str) -> Iterator[str]:
    """The URL of a database with the contract's tables, which are empty."""
    name = f"contract_{next(_numbers)}"
    _execute(postgres, f"CREATE DATABASE {name} TEMPLATE {contract_template}")
    yield postgres.url_of(name)
    _execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def pgbouncer(database: str, tmp_path: Path) -> Iterator[str]:
    """The URL of `database` through pgbouncer in transaction mode."""
    with poolers.pgbouncer(database, tmp_path) as url:
        yield url


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority, which makes each certificate once."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("other_authority"), "other")


@pytest.fixture
def engine(database: str) -> Iterator[sa.Engine]:
    """A web application's SQLAlchemy engine for `database`."""
    engine = sa.create_engine(sa.make_url(database).set(drivername="postgresql+psycopg2"))
    yield engine
    engine.dispose()


@pytest.fixture
def webapp(engine: sa.Engine) -> WebApp:
    """A web application. It publishes only together with the fixture `publishing`."""
    return WebApp(engine)


@pytest.fixture
async def snapshots(database: str) -> AsyncIterator[Database]:
    """A daemon's access to `database`."""
    snapshots = Database(database, pool_size=4, statement_timeout=30, prepared_statements=True)
    yield snapshots
    await snapshots.close()


@pytest.fixture
def publishing(webapp: WebApp, redis_server: embedded.Redis) -> Iterator[None]:
    """Publish events for the commits of `webapp`."""
    publisher = Publisher.from_url(redis_server.url)
    forget = listen(webapp.sessions, publisher)
    yield
    forget()
    publisher.close()


@pytest.fixture
def dojos(webapp: WebApp) -> list[Dojo]:
    """Three dojos, without solves."""
    return [webapp.create_dojo() for _ in range(3)]


@pytest.fixture
async def parts(
    async_cache: "redis.asyncio.Redis", snapshots: Database, dojos: list[Dojo]
) -> Parts:
    """A daemon's parts after the cold start. They work only when the test calls them."""
    assert dojos
    parts = Parts(async_cache, snapshots)
    await parts.start()
    return parts


@pytest.fixture
def variables(database: str, redis_server: embedded.Redis) -> dict[str, str]:
    """The environment variables for a daemon or a command on these servers."""
    return {"DATABASE_URL": database, "REDIS_URL": redis_server.url}


@pytest.fixture
def run(variables: dict[str, str]) -> Run:
    """A function that runs `statsd` with `variables`."""
    return run_with(variables)


@pytest.fixture
async def dojo_site(
    async_cache: "redis.asyncio.Redis",
    snapshots: Database,
    webapp: WebApp,
    publishing: None,  # noqa: ARG001 - as long as the site exists
) -> DojoSite:
    """A site whose first user has solved the first challenge, with all jobs answered."""
    dojo_site = DojoSite(async_cache, snapshots, webapp)
    webapp.solve(dojo_site.users[0], dojo_site.challenges[0])
    await dojo_site.start()
    await dojo_site.consume()
    return dojo_site


@pytest.fixture
def reader(engine: sa.Engine, redis_server: embedded.Redis) -> Iterator[Reader]:
    """A reader that computes missing values."""
    reader = Reader.from_url(engine, redis_server.url, enabled=True)
    yield reader
    reader.close()


def _execute(postgres: embedded.Postgres, statement: str) -> None:
    connection = psycopg2.connect(postgres.url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()
