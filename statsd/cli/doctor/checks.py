"""A look at the whole installation, for the operator."""

from collections.abc import AsyncIterator, Iterator, Mapping

from redis.asyncio import Redis

from statsd.cli.doctor import clocks, postgres, redis, stream
from statsd.cli.doctor.finding import Finding, Level
from statsd.cli.doctor.patient import Patient
from statsd.servers.database import Database
from statsd.servers.redis_client import redis_client
from statsd.settings import Settings, unknown
from statsd.urls import credentials

PATIENCE = 5.0  # seconds for a check; a server that takes longer is not asked again
CONNECTIONS = 2  # as many as it takes to see whether prepared statements are kept

Check = tuple[str, AsyncIterator[Finding]]
"""What is looked at, and what yields the findings."""


async def examine(
    settings: Settings, environ: Mapping[str, str], *, patience: float = PATIENCE
) -> AsyncIterator[Finding]:
    """Yield what is found, check by check, also where a server is gone."""
    for finding in configuration(settings, environ):
        yield finding
    database = Database(
        settings.database_url,
        pool_size=CONNECTIONS,
        statement_timeout=patience,
        prepared_statements=False,
    )
    try:
        async with redis_client(settings.redis_url) as client:
            cache = Patient("Redis", credentials(settings.redis_url), patience)
            for subject, check in _of_redis(client):
                for finding in await cache.examine(subject, check):
                    yield finding
            tables = Patient("PostgreSQL", credentials(settings.database_url), patience)
            for subject, check in _of_postgres(database, prepared=settings.prepared_statements):
                for finding in await tables.examine(subject, check):
                    yield finding
            clock = clocks.postgres(client, database)
            asked = cache if cache.is_gone else tables
            for finding in await asked.examine("clock of PostgreSQL", clock):
                yield finding
    finally:
        await database.close()


def configuration(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what the environment says; settings that are wrong were refused before."""
    strange = list(unknown(environ))
    for sentence in strange:
        advice = "correct its name, or remove it: see `statsd settings`"
        yield Finding(Level.WARNING, "settings", sentence, advice)
    if not settings.enabled:
        what = "BACKGROUND_STATS_ENABLED=0: nothing is published, and no daemon runs"
        yield Finding(Level.WARNING, "settings", what, "set it to 1, if that is not meant")
    elif not strange:
        yield Finding(Level.OK, "settings", "all are understood")


def _of_redis(client: Redis) -> Iterator[Check]:
    yield "Redis", redis.server(client)
    yield "role of Redis", redis.role(client)
    yield "cluster mode", redis.cluster(client)
    yield "memory", redis.memory(client)
    yield "persistence", redis.persistence(client)
    yield "acknowledging", redis.acknowledging(client)
    yield "daemons", stream.daemons(client)
    yield "consumers", stream.orphans(client)
    yield "events", stream.waiting(client)
    yield "pending entries", stream.pending(client)
    yield "dead letters", stream.dead_letters(client)
    yield "clock of this host", clocks.host(client)


def _of_postgres(database: Database, *, prepared: bool) -> Iterator[Check]:
    yield "PostgreSQL", postgres.server(database)
    yield "role of PostgreSQL", postgres.role(database)
    yield "tables", postgres.tables(database)
    yield "indexes", postgres.indexes(database)
    yield "prepared statements", postgres.prepared_statements(database, wanted=prepared)
