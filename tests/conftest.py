"""Servers for the tests.

Tests start PostgreSQL and Redis of their own, from wheels. Only `test_background_stats.py` can
run against a stack that is given by DATABASE_URL and REDIS_URL, and only when
STATSD_TEST_DESTROYS_DATA=yes says that its data may go.
"""

import os
from collections.abc import Iterator

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
def contract_url(postgres: embedded.Postgres) -> str:
    """A database with the contract's tables, and nothing in them."""
    engine = sa.create_engine(postgres.url.replace("postgresql:", "postgresql+psycopg2:"))
    with engine.begin() as connection:
        schema.metadata.create_all(connection)
    engine.dispose()
    return postgres.url
