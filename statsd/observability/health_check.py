"""The health check of this host's daemon, for containers."""

from functools import partial
from typing import Any

from redis.asyncio import Redis

from statsd import keys
from statsd.job import SECOND
from statsd.observability import daemon_report
from statsd.observability.probes import failing
from statsd.servers import redis_fitness
from statsd.servers.database import Database
from statsd.servers.errors import told
from statsd.servers.outages import checked
from statsd.servers.redis_client import redis_client
from statsd.settings import Settings

TIMEOUT = 5.0  # seconds for each server
OLDEST_REPORT = 6.0  # seconds; a daemon reports every two


async def trouble(settings: Settings) -> list[str]:
    """Return the problems, a sentence each; none when all is well."""
    database = Database(
        settings.database_url, pool_size=2, statement_timeout=TIMEOUT, prepared_statements=False
    )
    try:
        async with redis_client(settings.redis_url) as cache:
            probes = {
                "Redis": checked(partial(redis_fitness.probe, cache)),
                "PostgreSQL": checked(database.check),
            }
            errors = {name: await failing(probe, TIMEOUT) for name, probe in probes.items()}
            reasons = [told(name, error) for name, error in errors.items() if error]
            if not errors["Redis"]:
                reasons += await _troubles_of(cache, settings.consumer_name)
    finally:
        await database.close()
    return list(dict.fromkeys(reasons))


async def _troubles_of(cache: Redis, name: str) -> list[str]:
    """Return the problems of a daemon, from its heartbeat and its report."""
    if not await cache.exists(keys.heartbeat(name)):
        return [f"no daemon named {name} has given a heartbeat lately; does it run?"]
    own = {each.name: each for each in await daemon_report.reports(cache)}.get(name)
    if own is None:
        return [f"the daemon {name} has not reported yet: it starts, or it cannot; see its log"]
    time: Any = await cache.time()
    age = time[0] + time[1] / SECOND - own.at
    if age > OLDEST_REPORT:
        return [f"the daemon {name} has not reported for {age:.0f} seconds"]
    return own.troubles
