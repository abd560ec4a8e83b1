"""Whether this host's daemon is well: what a container's health check asks."""

import asyncio
from collections.abc import Awaitable, Callable

from redis import RedisError
from sqlalchemy.exc import SQLAlchemyError

from statsd import keys
from statsd.database import Database
from statsd.errors import StatsdError
from statsd.outage import brief
from statsd.servers import checked, redis_client
from statsd.settings import Settings

PATIENCE = 5.0  # seconds for each server


async def trouble(settings: Settings) -> list[str]:
    """Return what is wrong, a sentence each; nothing when all is well."""
    database = Database(
        settings.database_url, pool_size=2, statement_timeout=PATIENCE, prepared_statements=False
    )
    try:
        async with redis_client(settings.redis_url) as cache:
            name = settings.consumer_name
            reasons = [
                await _failing("Redis", checked(cache.ping)),
                await _failing("PostgreSQL", checked(database.check)),
            ]
            if not reasons[0] and not await cache.exists(keys.alive(name)):
                reasons.append(f"no daemon named {name} has shown a sign of life lately")
    finally:
        await database.close()
    return [reason for reason in reasons if reason]


async def _failing(server: str, probe: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(PATIENCE):
            await probe()
    except StatsdError as error:
        return str(error)
    except (OSError, RedisError, SQLAlchemyError) as error:
        return f"{server} does not serve: {brief(error)}"
    return ""
