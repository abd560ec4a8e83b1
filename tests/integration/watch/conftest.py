"""The parts, at work; and an application that publishes."""

from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

from statsd import embedded
from statsd.client import Publisher, listen
from statsd.database import Database
from tests.integration.watch.watched import Site
from tests.webapp import WebApp


@pytest.fixture
async def site(async_cache: Redis, snapshots: Database, webapp: WebApp) -> Site:
    site = Site(async_cache, snapshots, webapp)
    await site.start()
    return site


@pytest.fixture
def publishing(webapp: WebApp, redis_server: embedded.Redis) -> Iterator[None]:
    """Let the application publish."""
    publisher = Publisher.from_url(redis_server.url)
    forget = listen(webapp.sessions, publisher)
    yield
    forget()
    publisher.close()
