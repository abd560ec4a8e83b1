"""Servers for the tests.

Tests start PostgreSQL and Redis of their own, from wheels. Only `test_background_stats.py` can
run against a stack that is given by DATABASE_URL and REDIS_URL, and only when
STATSD_TEST_DESTROYS_DATA=yes says that its data may go.
"""

import os
from collections.abc import Iterator

import psycopg2
import pytest
import sqlalchemy as sa

from statsd import embedded, schema

GIVEN = ("DATABASE_URL", "REDIS_URL")


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[embedded.Postgres]:
    with embedded.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[embedded.Redis]:
    with embedded.redis() as server:
        yield server


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
