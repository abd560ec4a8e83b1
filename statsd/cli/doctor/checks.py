"""All checks of `statsd doctor`, in their order."""

from collections.abc import AsyncIterator, Iterator, Mapping

from redis.asyncio import Redis

from statsd.cli.doctor import clocks, postgres, redis, stream
from statsd.cli.doctor.server_probe import ServerProbe
from statsd.servers.database import Database
from statsd.servers.finding import Finding, Level
from statsd.servers.redis_client import redis_client
from statsd.settings import Settings, unknown
from statsd.urls import credentials

TIME_LIMIT = 5.0  # seconds for a check; a server that takes longer is not checked again
POOL_SIZE = 2  # connections; a check of prepared statements needs two

Check = tuple[str, AsyncIterator[Finding]]
"""The subject, and an iterator that checks it and yields the findings."""


async def examine(
    settings: Settings, environ: Mapping[str, str], *, time_limit: float = TIME_LIMIT
) -> AsyncIterator[Finding]:
    """Yield the findings, check by check; those of a server that is gone say so.

    `time_limit` is in seconds, for each check.
    """
    for finding in configuration(settings, environ):
        yield finding
    database = Database(
        settings.database_url,
        pool_size=POOL_SIZE,
        statement_timeout=time_limit,
        prepared_statements=False,
        any_role=True,
    )
    try:
        async with redis_client(settings.redis_url) as client:
            redis_probe = ServerProbe("Redis", credentials(settings.redis_url), time_limit)
            for subject, check in _of_redis(client):
                for finding in await redis_probe.run(subject, check):
                    yield finding
            postgres_probe = ServerProbe(
                "PostgreSQL", credentials(settings.database_url), time_limit
            )
            for subject, check in _of_postgres(database, prepared=settings.prepared_statements):
                for finding in await postgres_probe.run(subject, check):
                    yield finding
            clock = clocks.postgres(client, database)  # needs both servers
            probe = redis_probe if redis_probe.is_gone else postgres_probe
            for finding in await probe.run("clock of PostgreSQL", clock):
                yield finding
    finally:
        await database.close()


def configuration(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield findings about the environment; wrong values of settings were refused before."""
    misspelt = list(unknown(environ))
    for sentence in misspelt:
        advice = "correct its name, or remove it: see `statsd settings`"
        yield Finding(Level.WARNING, "settings", sentence, advice)
    if not settings.enabled:
        sentence = "BACKGROUND_STATS_ENABLED=0: nothing is published, and no daemon runs"
        yield Finding(Level.WARNING, "settings", sentence, "set it to 1, unless that is intended")
    elif not misspelt:
        yield Finding(Level.OK, "settings", "all are valid")


def _of_redis(client: Redis) -> Iterator[Check]:
    yield "Redis", redis.server(client)
    yield "writing", redis.writing(client)
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
    yield "indexes", postgres.indexes(database)
    yield "prepared statements", postgres.prepared_statements(database, wanted=prepared)
