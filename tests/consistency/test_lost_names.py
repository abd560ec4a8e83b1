"""Redis loses the names of users while a daemon, which remembers them, goes on."""

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.consistency.reconcile import Reconcile
from statsd.jobs.pending import PendingJob
from statsd.servers.database import Database
from tests.oracles.stored_boards import check, live_board, world_of
from tests.support.daemon_parts import Parts
from tests.support.webapp import Dojo, WebApp


class Site(Parts):
    """A daemon's parts, and two dojos with one solver each."""

    def __init__(self, cache: Redis, database: Database, webapp: WebApp) -> None:
        super().__init__(cache, database)
        self.webapp = webapp
        self.dojos = [webapp.create_dojo() for _ in range(2)]
        for dojo in self.dojos:
            webapp.solve(webapp.create_user(), webapp.challenge_ids(dojo)[0])

    async def reconcile(self) -> None:
        await self.queue.enqueue([PendingJob(Reconcile())])
        await self.answer()


@pytest.fixture
async def site(async_cache: Redis, snapshots: Database, webapp: WebApp) -> Site:
    site = Site(async_cache, snapshots, webapp)
    await site.start()
    return site


def shown(cache: "redis.Redis", dojo: Dojo) -> bool:
    """Say whether readers find the live board; they cannot without the name of its user."""
    return live_board(cache, dojo.dojo_id, None, 0) is not None


@pytest.mark.parametrize("lost", ["everything", "stats:*", "names"])
async def test_names_that_are_lost_are_stored_again(
    site: Site, cache: "redis.Redis", lost: str
) -> None:
    assert all(shown(cache, dojo) for dojo in site.dojos)
    if lost == "everything":
        cache.flushall()
    elif lost == "names":
        cache.delete(keys.NAMES)
    else:
        cache.delete(*cache.keys("stats:*"))
    await site.reconcile()
    assert all(shown(cache, dojo) for dojo in site.dojos)
    check(cache, world_of(site.webapp.engine))


async def test_all_names_are_stored_again_where_another_writer_stored_some(
    site: Site, cache: "redis.Redis"
) -> None:
    """Then the names are there again, though not all of them."""
    user = site.webapp.create_user()
    cache.delete(keys.NAMES)
    site.webapp.solve(user, site.webapp.challenge_ids(site.dojos[0])[1])
    other = Parts(site.cache, site.database)
    await other.search()
    await other.search()
    assert cache.hlen(keys.NAMES) >= 1
    await site.reconcile()
    assert all(shown(cache, dojo) for dojo in site.dojos)
    check(cache, world_of(site.webapp.engine))
