"""Probes of servers: every refusal of a server is an answer."""

import pytest

from statsd.dev import embedded
from statsd.observability.probes import Probes, failing
from statsd.servers.database import Database
from statsd.servers.errors import told
from tests.support.processes import DEADLINE


async def test_a_refused_connection_is_an_answer(postgres: embedded.Postgres) -> None:
    url = postgres.url_of("no_such_database")
    database = Database(url, pool_size=1, statement_timeout=59, prepared_statements=True)
    error = await failing(database.ping, DEADLINE)
    assert error
    reason = told("PostgreSQL", error)
    await database.close()
    assert reason.startswith("PostgreSQL does not serve: InvalidCatalogNameError: ")


async def test_a_bug_is_not_taken_for_an_outage() -> None:
    async def broken() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await Probes({"Redis": broken}).step()
