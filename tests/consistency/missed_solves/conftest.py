"""The parts, at work; and an application that publishes."""

import pytest
from redis.asyncio import Redis

from statsd.servers.database import Database
from tests.consistency.missed_solves.watched import Site
from tests.support.webapp import WebApp


@pytest.fixture
async def site(async_cache: Redis, snapshots: Database, webapp: WebApp) -> Site:
    site = Site(async_cache, snapshots, webapp)
    await site.start()
    return site
