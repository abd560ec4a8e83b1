"""A database that this project did not create, behind a pooler, with a URL in libpq's form."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa

from statsd.dev import embedded
from tests.stream.test_bad_input import Site, publish, value_of
from tests.support.processes import DEADLINE, daemon, environment, eventually
from tests.support.webapp import WebApp

# A deployment may have more than the contract: columns before, between and after ours, its own
# types, tables that refer to ours.
FOREIGN = """
    CREATE TYPE mood AS ENUM ('calm', 'tense');
    ALTER TABLE users ADD oauth_id int, ADD bracket_id int, ADD created timestamp DEFAULT now(),
        ADD mood mood DEFAULT 'calm', ADD password varchar(128) DEFAULT 'hash';
    ALTER TABLE submissions ADD ip varchar(46), ADD provided text, ADD team_id int;
    ALTER TABLE challenges ADD name varchar(80), ADD value int DEFAULT 1;
    ALTER TABLE dojos ADD description text, ADD repository varchar(256), ADD public_key text;
    ALTER TABLE dojo_modules ADD description text;
    ALTER TABLE dojo_challenges ADD data jsonb DEFAULT '{}', ADD progression_locked boolean;
    CREATE TABLE solves (id int PRIMARY KEY REFERENCES submissions ON DELETE CASCADE);
    CREATE TABLE flags (id serial PRIMARY KEY, challenge_id int REFERENCES challenges);
    CREATE INDEX ON submissions (date);
"""


@pytest.fixture
def foreign(database: str) -> Iterator[WebApp]:
    engine = sa.create_engine(sa.make_url(database).set(drivername="postgresql+psycopg2"))
    with engine.begin() as connection:
        connection.execute(sa.text(FOREIGN))
    yield WebApp(engine)
    engine.dispose()


def in_libpq_form(url: str) -> str:
    address = sa.make_url(url).set(drivername="postgresql+psycopg2")
    query = {"sslmode": "prefer", "application_name": "ctfd", "connect_timeout": "5"}
    return address.set(query=query).render_as_string(hide_password=False)


def test_a_foreign_database_is_served_through_a_pooler(
    pgbouncer: str,
    foreign: WebApp,
    redis_server: embedded.Redis,
    cache: "redis.Redis",
    tmp_path: Path,
) -> None:
    dojos = [foreign.create_dojo() for _ in range(5)]
    user = foreign.create_user()
    variables = {
        "DATABASE_URL": in_libpq_form(pgbouncer),
        "REDIS_URL": redis_server.url,
        "STATSD_PREPARED_STATEMENTS": "0",
    }
    with daemon(tmp_path / "log", **variables) as process:
        site = Site(process.started(), foreign, cache)
        eventually(
            lambda: all(value_of(site, dojo) for dojo in dojos), "the cold start is complete"
        )
        for dojo in dojos:
            for challenge_id in foreign.challenge_ids(dojo):
                foreign.solve(user, challenge_id)
                publish(site, "challenge_solve", user_id=user.id, challenge_id=challenge_id)
        eventually(
            lambda: all(value_of(site, dojo)["solves"] == 3 for dojo in dojos),
            "all solves are counted",
        )
        assert not process.lines("a job failed")
        assert not process.lines("lost a server")


def test_for_a_pooler_that_loses_prepared_statements_the_error_names_the_setting(
    pgbouncer: str, redis_server: embedded.Redis
) -> None:
    variables = {"DATABASE_URL": in_libpq_form(pgbouncer), "REDIS_URL": redis_server.url}
    ended = subprocess.run(
        [sys.executable, "-m", "statsd", "run"],
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "set STATSD_PREPARED_STATEMENTS=0" in ended.stderr


READS_PAGES = """
import asyncio, sys
import sqlalchemy as sa
from statsd.servers.database import Database

NUMBERS = sa.select(sa.func.generate_series(1, 5000).label("number"))

async def read(database):
    for _ in range(5):
        async with database.snapshot(considerate=True) as snapshot:
            both = [await snapshot.groups(NUMBERS, {}, page=500) for _ in range(2)]
            for number in range(1, 5001):
                assert [len(await groups.of(number)) for groups in both] == [1, 1]

async def main():
    url = sys.argv[1]
    database = Database(url, pool_size=3, statement_timeout=30, prepared_statements=False)
    await asyncio.gather(*(read(database) for _ in range(3)))
    await database.close()

asyncio.run(main())
"""


def test_processes_that_read_in_pages_share_a_pooler(pgbouncer: str) -> None:
    """Named statements would collide in the pooler, as each process numbers them from one."""
    both = [
        subprocess.Popen([sys.executable, "-c", READS_PAGES, in_libpq_form(pgbouncer)])
        for _ in range(2)
    ]
    assert [process.wait(2 * DEADLINE) for process in both] == [0, 0]
