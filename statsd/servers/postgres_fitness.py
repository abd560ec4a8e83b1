"""Whether a PostgreSQL can be used: what `statsd doctor` says, and what the daemon waits for."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import asyncpg
import sqlalchemy as sa

from statsd import schema
from statsd.servers.errors import brief, is_denied, sqlstate
from statsd.servers.finding import Finding, Level
from statsd.servers.snapshot import Snapshot

OLDEST, NEWEST = 15, 18
UNDEFINED_TABLE, UNDEFINED_COLUMN = "42P01", "42703"
MIGRATE = "let the web application's migrations make it so; the daemon waits for it"

SERVER = sa.text(
    "SELECT current_setting('server_version') AS version,"
    " current_setting('server_version_num')::int / 10000 AS major,"
    " pg_is_in_recovery() AS is_standby"
)
_PROBES = {table: sa.select(*table.columns).limit(0) for table in schema.metadata.sorted_tables}
_TYPES: dict[type[sa.types.TypeEngine[Any]], tuple[str, ...]] = {
    sa.Integer: ("integer", "bigint", "smallint", "int4", "int8", "int2"),
    sa.Boolean: ("boolean", "bool"),
    sa.DateTime: ("timestamp", "timestamp without time zone"),
    sa.JSON: ("jsonb", "json"),
}
"""The types that a column may have; text may be of any type that reads as text."""
_NO_TEXT = {each for names in _TYPES.values() for each in names} | {"timestamptz", "bytea"}


async def findings(snapshot: Snapshot) -> AsyncIterator[Finding]:
    """Yield the version and the role of a server, and whether the tables can be read."""
    [server] = await snapshot.rows(SERVER)
    yield version(server.version.split()[0], server.major)
    yield role(is_standby=server.is_standby)
    yield await tables(snapshot)


def version(text: str, major: int) -> Finding:
    """Judge a version, by its text and its major number."""
    sentence = f"version {text}"
    if major < OLDEST:
        advice = f"upgrade to a version from {OLDEST} to {NEWEST}; older ones are not tested"
        return Finding(Level.WARNING, "PostgreSQL", sentence, advice)
    untested = f"; newer than {NEWEST} is not tested" if major > NEWEST else ""
    return Finding(Level.OK, "PostgreSQL", sentence + untested)


def role(*, is_standby: bool) -> Finding:
    """Judge the role: on a standby, a solve may appear after its event is handled."""
    subject = "role of PostgreSQL"
    if not is_standby:
        return Finding(Level.OK, subject, "it is the primary")
    sentence = "it is a standby, which lags behind the events"
    return Finding(Level.DANGER, subject, sentence, "let DATABASE_URL name the primary")


async def tables(snapshot: Snapshot) -> Finding:
    """Judge the tables of the contract: their columns, the types of these, and our rights."""
    subject = "tables"
    wrong: list[str] = []
    for table, probe in _PROBES.items():
        try:
            types = await snapshot.types(probe)
            await snapshot.rows(probe)
        except asyncpg.PostgresError as error:  # it ends the transaction
            if is_denied(error):
                sentence = f"the user lacks SELECT on {table.name}"
                return Finding(Level.DANGER, subject, sentence, f"GRANT SELECT ON {table.name}")
            if sqlstate(error) not in {UNDEFINED_TABLE, UNDEFINED_COLUMN}:
                raise
            columns = ", ".join(column.name for column in table.columns)
            sentence = f"{brief(error)}; wanted: table {table.name} with {columns}"
            return Finding(Level.DANGER, subject, sentence, MIGRATE)
        wrong += wrong_types(table, types)
    if wrong:
        return Finding(Level.DANGER, subject, "; ".join(wrong), MIGRATE)
    return Finding(Level.OK, subject, "all tables and columns exist and can be read")


def wrong_types(table: sa.Table, types: Sequence[str]) -> Iterator[str]:
    """Yield a phrase for each column whose type is not one that the statements read."""
    for column, found in zip(table.columns, types, strict=True):
        kinds = [wanted for kind, wanted in _TYPES.items() if isinstance(column.type, kind)]
        if found not in kinds[0] if kinds else found in _NO_TEXT:
            wanted = kinds[0][0] if kinds else "text"
            yield f"{table.name}.{column.name} is {found}, and not {wanted}"
