"""Checks of PostgreSQL, by `statsd doctor`."""

from collections.abc import AsyncIterator

import sqlalchemy as sa

from statsd.errors import UnfitServerError
from statsd.servers.database import LOSES_PREPARED, Database
from statsd.servers.finding import Finding, Level
from statsd.servers.outages import checked

INDEXES = sa.text(
    "SELECT table_name, indisunique,"
    " pg_get_indexdef(indexrelid, 1, true), pg_get_indexdef(indexrelid, 2, true)"
    " FROM unnest(array['submissions', 'dojo_challenges']) AS table_name"
    " JOIN pg_index ON indrelid = to_regclass(table_name) WHERE indisvalid"
)


async def server(database: Database) -> AsyncIterator[Finding]:
    """Check that it serves, its version and role, and that the tables of the contract can be read.

    `database` must not use prepared statements, since a pooler may lose them.
    """
    for finding in await checked(database.findings)():
        yield finding


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
    except UnfitServerError:
        if wanted:
            advice = "set STATSD_PREPARED_STATEMENTS=0"
            yield Finding(Level.DANGER, subject, LOSES_PREPARED, advice)
        else:
            yield Finding(Level.OK, subject, "off, as the pooler requires")
    else:
        slow = "off, though no pooler loses them: STATSD_PREPARED_STATEMENTS=1 is faster"
        yield Finding(Level.OK, subject, "on, and kept" if wanted else slow)
