"""TLS to both servers, with a private authority and client certificates, under load."""

from collections.abc import Callable
from typing import Any

import pytest

from statsd.dev import embedded
from tests.faults.conftest import SiteOn
from tests.faults.form import pass_time, sized
from tests.faults.harness import Addresses, Site, direct
from tests.support import certificates, tls
from tests.support.certificates import Authority, Certificate
from tests.support.commands import Result, run_with

pytestmark = pytest.mark.timeout(300)

"""To be removed with the first version that takes them: then these tests pass, and say so."""

LOAD = sized(1.5, 20.0)  # seconds
NOBODY = "postgresql://statsd@127.0.0.1:1/postgres"

Wrong = Callable[[Authority, Authority], Certificate]
"""Return a wrong certificate for a server, by the trusted authority or by another."""

WRONG: dict[str, Wrong] = {
    "another name": lambda trusted, _: trusted.server(certificates.WRONG_NAMES),
    "expired": lambda trusted, _: trusted.server(days=certificates.EXPIRED),
    "another authority": lambda _, other: other.server(),
}


def connections(site: Site, cache: tls.TlsRedis) -> int:
    """Return how many clients have a connection to the port for TLS."""
    clients = site.cache.client_list()
    return sum(each["laddr"].endswith(f":{cache.port}") for each in clients)


def endure(site: Site) -> None:
    """Run a daemon under load, and check all values."""
    site.start().started()
    with site.load.running():
        pass_time(LOAD)
    site.finish()


@pytest.mark.parametrize("clients", ["yes", "no"])
def test_redis_over_tls(site_on: SiteOn, authority: Authority, clients: str) -> None:
    """The server requires certificates of clients, or requires none and gets none."""
    without: dict[str, Any] = (
        {} if clients == "yes" else {"ssl_certfile": None, "ssl_keyfile": None}
    )
    with embedded.postgres() as database, tls.redis(authority, clients=clients) as cache:
        servers = embedded.EmbeddedServers(database.url, cache.server.url, database, cache.server)
        url = cache.tls_url(**without)
        site = site_on(servers, addresses=direct(servers)._replace(daemon_redis=url, web_redis=url))
        site.start().started()
        with site.load.running():
            pass_time(LOAD)
            assert connections(site, cache) >= 3  # two of the daemon, one of the publisher
        site.finish()


def test_both_servers_over_tls_with_client_certificates(
    site_on: SiteOn, authority: Authority
) -> None:
    """PostgreSQL serves nobody without TLS, and takes the role from the certificate."""
    with tls.postgres(authority) as database, tls.redis(authority) as cache:
        servers = embedded.EmbeddedServers(database.url, cache.server.url, database, cache.server)
        addresses = Addresses(
            database.tls_url("statsd"),
            cache.tls_url(),
            database.tls_url("postgres"),
            cache.tls_url(),
        )
        endure(site_on(servers, addresses=addresses))


# --- refused


def examined(database: str, cache: str) -> Result:
    """Return what the doctor says."""
    return run_with({"DATABASE_URL": database, "REDIS_URL": cache})("doctor")


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_redis_with_a_wrong_certificate_is_not_used(
    authority: Authority, other_authority: Authority, wrong: Wrong
) -> None:
    with tls.redis(authority, wrong(authority, other_authority)) as cache:
        found = examined(NOBODY, cache.tls_url())
        assert found.code == 1
        assert "danger   Redis: REDIS_URL: the server" in found.output
        assert "certificate" in found.output.lower()


def test_a_redis_that_wants_a_certificate_refuses_clients_without(authority: Authority) -> None:
    with tls.redis(authority) as cache:
        found = examined(NOBODY, cache.tls_url(ssl_certfile=None, ssl_keyfile=None))
    assert found.code == 1
    assert "danger   Redis: " in found.output


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_postgresql_with_a_wrong_certificate_is_not_used(
    authority: Authority, other_authority: Authority, wrong: Wrong
) -> None:
    shown = wrong(authority, other_authority)
    with tls.postgres(authority, shown) as database, embedded.redis() as cache:
        found = examined(database.tls_url("postgres"), cache.url)
    assert found.code == 1
    assert "danger   PostgreSQL: " in found.output
    assert "certificate" in found.output.lower()


def test_a_postgresql_that_wants_a_certificate_refuses_clients_without(
    authority: Authority,
) -> None:
    with tls.postgres(authority) as database, embedded.redis() as cache:
        found = examined(database.tls_url("postgres", sslcert=None, sslkey=None), cache.url)
    assert found.code == 1
    assert "danger   PostgreSQL: " in found.output
