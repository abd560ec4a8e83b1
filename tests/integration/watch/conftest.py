"""The parts, at work; and an application that publishes."""

import pytest
from redis.asyncio import Redis

from statsd.database import Database
from tests.integration.watch.watched import Site
from tests.webapp import WebApp


@pytest.fixture
async def site(async_cache: Redis, snapshots: Database, webapp: WebApp) -> Site:
    site = Site(async_cache, snapshots, webapp)
    await site.start()
    return site
