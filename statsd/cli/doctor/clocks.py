"""Checks of clocks, by `statsd doctor`.

The daemon takes the time, and so days and visibilities, from the clock of Redis.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from time import time

import sqlalchemy as sa
from redis.asyncio import Redis

from statsd.servers.database import Database
from statsd.servers.finding import Finding, Level

SKEW = 1.0  # seconds
NOW = sa.text("SELECT extract(epoch FROM clock_timestamp())::float8")


async def host(redis: Redis) -> AsyncIterator[Finding]:
    """Compare this host's clock with that of Redis."""
    yield judge("clock of this host", -await _ahead(partial(redis_time, redis)))


async def postgres(redis: Redis, database: Database) -> AsyncIterator[Finding]:
    """Compare PostgreSQL's clock with that of Redis."""
    async with database.snapshot() as snapshot:

        async def now() -> float:
            [moment] = await snapshot.scalars(NOW)
            return float(moment)

        await now()  # the first run is slower, as the statement is prepared
        ahead = await _ahead(now)
    yield judge("clock of PostgreSQL", ahead - await _ahead(partial(redis_time, redis)))


def judge(subject: str, ahead: float) -> Finding:
    """Judge a clock that is `ahead` seconds ahead of that of Redis."""
    if abs(ahead) < SKEW:
        return Finding(Level.OK, subject, "it agrees with that of Redis")
    sentence = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} that of Redis"
    return Finding(Level.WARNING, subject, sentence, "let NTP set the clocks of all hosts")


async def redis_time(redis: Redis) -> float:
    """Return the time of the Redis server, in Unix seconds."""
    seconds, micros = await redis.time()
    return float(seconds + micros / 1e6)


async def _ahead(now: Callable[[], Awaitable[float]]) -> float:
    """Return by how many seconds a clock is ahead of this host's, within half its answer time."""
    before = time()
    moment = await now()
    return moment - (before + time()) / 2
