"""Limits that a DBA sets for the daemon's role do not end its work, and the home is not needed."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy as sa

from statsd.servers.database import CUSTOM, GENERIC, Database
from tests.support.poolers import pgbouncer
from tests.support.processes import DEADLINE

LIMITS = ("transaction_timeout", "idle_in_transaction_session_timeout", "statement_timeout")
SLOW = sa.text("SELECT pg_sleep(0.3) IS NULL")
PAUSE = 0.3  # seconds

READS = """
import asyncio, encodings.idna, os, sys
from statsd.servers.database import Database
if os.geteuid() == 0:
    os.setuid(65534)  # a user who may read no home directory; imports are done by now
async def main():
    database = Database(sys.argv[1], pool_size=1, statement_timeout=5, prepared_statements=True)
    await database.ping()
    await database.close()
asyncio.run(main())
"""


@pytest.fixture
def limited(database: str) -> Iterator[str]:
    """The address of the database for a role whose limits are all 100 ms."""
    connection = psycopg2.connect(database)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE limited LOGIN")
        for limit in LIMITS:
            cursor.execute(f"ALTER ROLE limited SET {limit} = 100")
        yield sa.make_url(database).set(username="limited").render_as_string(hide_password=False)
        cursor.execute("DROP ROLE limited")
    connection.close()


async def test_our_limits_hold_and_not_those_of_the_role(limited: str) -> None:
    database = Database(limited, pool_size=1, statement_timeout=5, prepared_statements=True)
    for plan in (CUSTOM, GENERIC):
        async with database.snapshot(plan=plan) as snapshot:
            await snapshot.rows(SLOW)
            await asyncio.sleep(PAUSE)  # the pause itself is what is tested
            await snapshot.rows(SLOW)
    await database.alone(SLOW)
    await database.close()


async def test_they_hold_through_a_pooler(limited: str, tmp_path: Path) -> None:
    with pgbouncer(limited, tmp_path) as pooled:
        database = Database(pooled, pool_size=1, statement_timeout=5, prepared_statements=False)
        await database.alone(SLOW)
        async with database.snapshot() as snapshot:
            await snapshot.rows(SLOW)
            await asyncio.sleep(PAUSE)
            await snapshot.rows(SLOW)
        await database.close()


@pytest.mark.parametrize("home", ["closed", "missing", "no folder"])
def test_a_home_directory_that_cannot_be_read_is_no_outage(
    database: str, tmp_path: Path, home: str
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    folder = {"closed": closed, "missing": tmp_path / "none", "no folder": Path("/dev/null")}[home]
    environment = {**os.environ, "HOME": str(folder)}
    ended = subprocess.run(
        [sys.executable, "-c", READS, database],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
