"""Another server becomes the primary, under load: Redis with and without sentinels, PostgreSQL."""

import pytest
import sqlalchemy as sa

from statsd.dev import embedded
from tests.faults.conftest import SiteOn
from tests.faults.form import pass_time, sized
from tests.faults.harness import DAEMON, Addresses, Site, direct
from tests.support import poolers, replicas
from tests.support.moving_names import MovingName, moving_name
from tests.support.processes import eventually
from tests.support.replicas import RedisNode, Standby

pytestmark = pytest.mark.timeout(300)

"""Each is to be removed with the first version that can do it: then the test passes, and says so.
"""

LOAD = sized(1.0, 10.0)  # seconds before and after a fault
WithStandby = tuple[embedded.EmbeddedServers, Addresses]

RECOVERED = 20.0  # seconds until all values are exact
SYNCHRONOUS = {"synchronous_standby_names": "*"}  # a failover loses no commit


def redis_servers(database: embedded.Postgres, cache: RedisNode) -> embedded.EmbeddedServers:
    return embedded.EmbeddedServers(database.url, cache.url, database, cache)


def redis_at(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


# --- Redis


def test_redis_fails_over_and_its_name_moves(site_on: SiteOn) -> None:
    with (
        embedded.postgres() as database,
        replicas.redis_group() as group,
        moving_name(group.primary.port) as name,
    ):
        servers, url = redis_servers(database, group.primary), redis_at(name.port)
        addresses = direct(servers)._replace(daemon_redis=url, web_redis=url)
        site = site_on(servers, addresses=addresses, cache=group.client)
        site.start().started()
        with site.load.running():
            pass_time(LOAD)
            now = fail_over(site, group)
            name.move_to(now.port)
            pass_time(LOAD)
        site.finish(heals=True, within=RECOVERED)


def test_redis_fails_over_and_its_sentinels_tell(site_on: SiteOn) -> None:
    with embedded.postgres() as database, replicas.redis_group() as group:
        servers = redis_servers(database, group.primary)
        addresses = direct(servers)._replace(daemon_redis=group.url, web_redis=group.url)
        site = site_on(servers, addresses=addresses, cache=group.client)
        site.start().started()
        with site.load.running():
            pass_time(LOAD)
            fail_over(site, group)
            pass_time(LOAD)
        site.finish(heals=True, within=RECOVERED)


def fail_over(site: Site, group: replicas.RedisGroup) -> RedisNode:
    """Kill the primary; return the next one. The killed one comes back, and becomes a replica."""
    before = group.kill_primary()
    now = group.wait_for_failover(before)
    before.start()
    site.faults["failovers"] += 1
    return now


@pytest.mark.parametrize("connections", ["closed", "kept"])
def test_redis_is_demoted_in_place(site_on: SiteOn, connections: str) -> None:
    """The other server is promoted and gets the name.

    Connections that are kept stay with the replica, which answers PING and refuses writes.
    """
    with (
        embedded.postgres() as database,
        replicas.redis_pair() as (before, after),
        moving_name(before.port) as name,
    ):
        servers, url = redis_servers(database, before), redis_at(name.port)
        addresses = direct(servers)._replace(daemon_redis=url, web_redis=url)
        site = site_on(servers, addresses=addresses, cache=after.client)
        site.start().started()
        with site.load.running():
            pass_time(LOAD)
            after.promote()
            name.move_to(after.port)
            before.follow(after)
            if connections == "closed":
                before.client.client_kill_filter(_type="normal", skipme=True)
            site.faults["demotions"] += 1
            pass_time(LOAD)
        site.finish(heals=True, within=RECOVERED)


# --- PostgreSQL


def with_standby(primary: embedded.Postgres, cache: embedded.Redis, port: int) -> WithStandby:
    """Return the servers, and addresses that lead to PostgreSQL by a name's port."""
    servers = embedded.EmbeddedServers(primary.url, cache.url, primary, cache)
    moving = sa.make_url(primary.url).set(port=port)
    addresses = direct(servers)._replace(
        daemon_database=moving.set(username=DAEMON).render_as_string(),
        web_database=moving.render_as_string(),
    )
    return servers, addresses


def promote(site: Site, standby: Standby, name: MovingName) -> None:
    """Kill the primary, promote its standby and move the name."""
    site.servers.postgres.stop(site.servers.postgres.immediate)
    standby.promote()
    name.move_to(standby.port)
    site.faults["promotions"] += 1


@pytest.mark.parametrize("address", ["name", "several hosts"])
def test_a_standby_of_postgresql_is_promoted(site_on: SiteOn, address: str) -> None:
    """The web application follows a name; the daemon too, or it has both hosts in its URL."""
    with (
        embedded.postgres(settings=SYNCHRONOUS) as primary,
        replicas.standby(primary) as standby,
        embedded.redis() as cache,
        moving_name(primary.port) as name,
    ):
        servers, addresses = with_standby(primary, cache, name.port)
        if address == "several hosts":
            hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
            url = f"postgresql://{DAEMON}@{hosts}/postgres?target_session_attrs=primary"
            addresses = addresses._replace(daemon_database=url)
        site = site_on(servers, addresses=addresses)
        site.start().started()
        with site.load.running():
            pass_time(LOAD)
            promote(site, standby, name)
            pass_time(LOAD)
        site.finish(within=RECOVERED)


def test_a_standby_that_lacks_the_last_commit_is_promoted(site_on: SiteOn) -> None:
    """A value contains the lost solve, and no event says that it is undone.

    The audit, which would find that after a while, is off.
    """
    with (
        embedded.postgres() as primary,
        replicas.standby(primary) as standby,
        embedded.redis() as cache,
        moving_name(primary.port) as name,
    ):
        servers, addresses = with_standby(primary, cache, name.port)
        site = site_on(servers, addresses=addresses)
        site.start(STATSD_AUDIT_INTERVAL="0").started()
        site.complete()
        eventually(standby.is_in_step, "the standby is in step")
        standby.disconnect()
        site.probe()
        promote(site, standby, name)
        site.finish(heals=True, within=RECOVERED)


def test_pgbouncer_in_transaction_mode(
    site_on: SiteOn, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """PostgreSQL crashes behind it, which pgbouncer tells its clients by errors of its own."""
    with embedded.servers() as servers:
        address = direct(servers)
        folder = tmp_path_factory.mktemp("pgbouncer")
        with poolers.pgbouncer(address.daemon_database, folder) as pooled:
            site = site_on(servers, addresses=address._replace(daemon_database=pooled))
            site.start(STATSD_PREPARED_STATEMENTS="0").started()
            with site.load.running():
                pass_time(LOAD)
                site.crash(servers.postgres)
                pass_time(LOAD)
            site.finish(within=RECOVERED)
