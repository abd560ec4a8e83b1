"""What `statsd doctor` asks of clocks: days and visibilities are told by that of Redis."""

from collections.abc import AsyncIterator, Awaitable, Callable
from time import time

import sqlalchemy as sa
from redis.asyncio import Redis

from statsd.cli.doctor.finding import Finding, Level
from statsd.servers.database import Database

SKEW = 1.0  # seconds
NOW = sa.text("SELECT extract(epoch FROM clock_timestamp())::float8")


async def host(redis: Redis) -> AsyncIterator[Finding]:
    """How far this host's clock is from that of Redis."""
    yield judged("clock of this host", -await _ahead(_of_redis(redis)))


async def postgres(redis: Redis, database: Database) -> AsyncIterator[Finding]:
    """How far PostgreSQL's clock is from that of Redis."""
    async with database.snapshot() as snapshot:

        async def now() -> float:
            [moment] = await snapshot.scalars(NOW)
            return float(moment)

        await now()  # what is prepared for the first time takes longer
        ahead = await _ahead(now)
    yield judged("clock of PostgreSQL", ahead - await _ahead(_of_redis(redis)))


def judged(subject: str, ahead: float) -> Finding:
    """Judge a clock that is so many seconds ahead of that of Redis."""
    if abs(ahead) < SKEW:
        return Finding(Level.OK, subject, "it agrees with that of Redis")
    what = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} that of Redis"
    return Finding(Level.WARNING, subject, what, "let NTP set the clocks of all hosts")


def _of_redis(redis: Redis) -> Callable[[], Awaitable[float]]:
    async def now() -> float:
        seconds, micros = await redis.time()
        return float(seconds + micros / 1e6)

    return now


async def _ahead(now: Callable[[], Awaitable[float]]) -> float:
    """Return how many seconds another clock is ahead of this host's, give or take its answer."""
    before = time()
    moment = await now()
    return moment - (before + time()) / 2
