"""Checks of PostgreSQL, by `statsd doctor`."""

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
IN_RECOVERY = sa.text("SELECT pg_is_in_recovery()")
INDEXES = sa.text(
    "SELECT table_name, indisunique,"
    " pg_get_indexdef(indexrelid, 1, true), pg_get_indexdef(indexrelid, 2, true)"
    " FROM unnest(array['submissions', 'dojo_challenges']) AS table_name"
    " JOIN pg_index ON indrelid = to_regclass(table_name) WHERE indisvalid"
)


async def server(database: Database) -> AsyncIterator[Finding]:
    """Check that it serves, and that its version is supported."""
    found: list[tuple[str, int]] = []

    async def ask() -> None:
        async with database.snapshot() as snapshot:
            [(text, number)] = await snapshot.rows(VERSION)
            found.append((text, number // 10_000))

    await checked(ask)()
    [(text, major)] = found
    yield version(text.split()[0], major)


def version(text: str, major: int) -> Finding:
    """Judge a version, by its text and its major number."""
    sentence = f"version {text}"
    if major < OLDEST:
        advice = f"upgrade to a version from {OLDEST} to {NEWEST}; older ones are not tested"
        return Finding(Level.WARNING, "PostgreSQL", sentence, advice)
    untested = f"; newer than {NEWEST} is not tested" if major > NEWEST else ""
    return Finding(Level.OK, "PostgreSQL", sentence + untested)


async def role(database: Database) -> AsyncIterator[Finding]:
    """Check that it is the primary: on a replica, a solve may appear after its event is handled."""
    async with database.snapshot() as snapshot:
        [is_replica] = await snapshot.scalars(IN_RECOVERY)
    if is_replica:
        sentence = "it is a replica, which lags behind the events"
        advice = "let DATABASE_URL name the primary"
        yield Finding(Level.DANGER, "role of PostgreSQL", sentence, advice)
    else:
        yield Finding(Level.OK, "role of PostgreSQL", "it is the primary")


async def tables(database: Database) -> AsyncIterator[Finding]:
    """Check that all columns of the contract can be read.

    `database` must not use prepared statements, since a pooler may lose them.
    """
    await checked(database.check)()
    yield Finding(Level.OK, "tables", "all tables and columns exist and can be read")


async def indexes(database: Database) -> AsyncIterator[Finding]:
    """Check for the indexes without which each solve costs a scan of all submissions."""
    async with database.snapshot() as snapshot:
        found = [tuple(row) for row in await snapshot.rows(INDEXES)]
    solves = ("submissions", True, "challenge_id", "user_id") in found
    challenges = any(
        table == "dojo_challenges" and first == "challenge_id" for table, _, first, _ in found
    )
    missing = [] if solves else ["a unique one on the solves' (challenge_id, user_id)"]
    missing += [] if challenges else ["one on dojo_challenges (challenge_id)"]
    if missing:
        sentence = f"missing: {', and '.join(missing)}"
        advice = "create it, as in docs/contract.md: without it each solve is slow"
        yield Finding(Level.WARNING, "indexes", sentence, advice)
    else:
        yield Finding(Level.OK, "indexes", "all indexes of the contract exist")


async def prepared_statements(database: Database, *, wanted: bool) -> AsyncIterator[Finding]:
    """Check that the setting is right for the pooler, or for the lack of one."""
    subject = "prepared statements"
    try:
        await database.check_prepared_statements()
    except SettingsError:
        if wanted:
            lost = "the pooler loses them (pgbouncer before 1.21, or max_prepared_statements = 0)"
            yield Finding(Level.DANGER, subject, lost, "set STATSD_PREPARED_STATEMENTS=0")
        else:
            yield Finding(Level.OK, subject, "off, as the pooler requires")
    else:
        slow = "off, though no pooler loses them: STATSD_PREPARED_STATEMENTS=1 is faster"
        yield Finding(Level.OK, subject, "on, and kept" if wanted else slow)
