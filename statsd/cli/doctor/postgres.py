"""What `statsd doctor` asks of PostgreSQL."""

from collections.abc import AsyncIterator

import sqlalchemy as sa

from statsd.cli.doctor.finding import Finding, Level
from statsd.errors import SettingsError
from statsd.servers.database import Database
from statsd.servers.redis_client import checked

OLDEST, NEWEST = 15, 18
VERSION = sa.text(
    "SELECT current_setting('server_version'), current_setting('server_version_num')::int"
)
RECOVERS = sa.text("SELECT pg_is_in_recovery()")
INDEXES = sa.text(
    "SELECT table_name, indisunique,"
    " pg_get_indexdef(indexrelid, 1, true), pg_get_indexdef(indexrelid, 2, true)"
    " FROM unnest(array['submissions', 'dojo_challenges']) AS table_name"
    " JOIN pg_index ON indrelid = to_regclass(table_name) WHERE indisvalid"
)


async def server(database: Database) -> AsyncIterator[Finding]:
    """Whether it serves, and is of a version that is known to do."""
    found: list[tuple[str, int]] = []

    async def ask() -> None:
        async with database.snapshot() as snapshot:
            [(text, number)] = await snapshot.rows(VERSION)
            found.append((text, number // 10_000))

    await checked(ask)()
    [(text, major)] = found
    yield version(text.split()[0], major)


def version(text: str, major: int) -> Finding:
    """Judge the version."""
    name = f"version {text}"
    if major < OLDEST:
        advice = f"upgrade to {OLDEST} to {NEWEST}; older ones are not tested"
        return Finding(Level.WARNING, "PostgreSQL", name, advice)
    untested = f"; newer than {NEWEST} is not tested" if major > NEWEST else ""
    return Finding(Level.OK, "PostgreSQL", name + untested)


async def role(database: Database) -> AsyncIterator[Finding]:
    """Whether it is the primary: a replica shows a solve after its event was handled."""
    async with database.snapshot() as snapshot:
        [recovers] = await snapshot.scalars(RECOVERS)
    if recovers:
        what = "it is a replica, which lags behind events"
        advice = "let DATABASE_URL name the primary"
        yield Finding(Level.DANGER, "role of PostgreSQL", what, advice)
    else:
        yield Finding(Level.OK, "role of PostgreSQL", "it is the primary")


async def tables(database: Database) -> AsyncIterator[Finding]:
    """Whether all columns of the contract can be read; `database` uses nothing that is prepared."""
    await checked(database.check)()
    yield Finding(Level.OK, "tables", "all are there and can be read")


async def indexes(database: Database) -> AsyncIterator[Finding]:
    """Whether the indexes are there without which a solve costs a pass over all submissions."""
    async with database.snapshot() as snapshot:
        found = [tuple(row) for row in await snapshot.rows(INDEXES)]
    solves = ("submissions", True, "challenge_id", "user_id") in found
    challenges = any(
        table == "dojo_challenges" and first == "challenge_id" for table, _, first, _ in found
    )
    missing = [] if solves else ["a unique one on the solves' (challenge_id, user_id)"]
    missing += [] if challenges else ["one on dojo_challenges (challenge_id)"]
    if missing:
        what = f"missing: {', and '.join(missing)}"
        advice = "make it, as docs/contract.md has it: each solve is slow without"
        yield Finding(Level.WARNING, "indexes", what, advice)
    else:
        yield Finding(Level.OK, "indexes", "those of the contract are there")


async def prepared_statements(database: Database, *, wanted: bool) -> AsyncIterator[Finding]:
    """Whether the setting suits what lies between: a pooler, or nothing."""
    subject = "prepared statements"
    try:
        await database.check_prepared_statements()
    except SettingsError:
        if wanted:
            what = "the pooler loses them (pgbouncer before 1.21, or max_prepared_statements = 0)"
            yield Finding(Level.DANGER, subject, what, "set STATSD_PREPARED_STATEMENTS=0")
        else:
            yield Finding(Level.OK, subject, "off, as the pooler needs it")
    else:
        slow = "off, though nothing loses them: STATSD_PREPARED_STATEMENTS=1 is faster"
        yield Finding(Level.OK, subject, "on, and kept" if wanted else slow)
