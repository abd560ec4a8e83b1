"""A daemon's parts that have started, beside an application that publishes nothing."""

import pytest
from redis.asyncio import Redis

from statsd.servers.database import Database
from tests.consistency.missed_solves.site import Site
from tests.support.webapp import WebApp


@pytest.fixture
async def site(async_cache: Redis, snapshots: Database, webapp: WebApp) -> Site:
    site = Site(async_cache, snapshots, webapp)
    await site.start()
    return site
