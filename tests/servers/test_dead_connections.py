"""A firewall drops idle connections without a word: their next use costs a second, not a minute."""

import asyncio
import socket
from collections.abc import Iterator
from time import monotonic

import pytest
import redis
import sqlalchemy as sa

from statsd import keys
from statsd.addresses.redis_clients import async_client, sync_client
from statsd.client import Publisher
from statsd.dev import embedded
from statsd.events import UserUpdate
from statsd.servers import database as database_module
from statsd.servers.database import Database
from tests.support.moving_names import MovingName, moving_name

LIMIT = 5.0  # seconds on a busy machine; a dead connection of the pool would cost 10 to 55
CONNECTIONS = 4
PINGED = {"health_check_interval": 1e-6, "socket_timeout": 10.0}  # before each command


@pytest.fixture
def firewall(database: str) -> Iterator[MovingName]:
    with moving_name(sa.make_url(database).port or 0) as name:
        yield name


async def test_dead_connections_of_the_pool_are_replaced_together(
    database: str, firewall: MovingName, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sa.make_url(database).set(port=firewall.port).render_as_string(hide_password=False)
    pool = Database(url, pool_size=CONNECTIONS, statement_timeout=50, prepared_statements=True)
    async with pool.snapshot(), pool.snapshot(), pool.snapshot(), pool.snapshot():
        pass
    monkeypatch.setattr(database_module, "IDLE", -1.0)
    firewall.forget()
    began = monotonic()
    await asyncio.gather(*(pool.ping() for _ in range(CONNECTIONS)))
    assert monotonic() - began < LIMIT
    await pool.close()


async def test_keepalives_are_set_on_each_connection(database: str) -> None:
    for query, expected in (
        ("", (10, 5, 3)),
        ("keepalives_idle=33&keepalives_count=7", (33, 5, 7)),
    ):
        pool = Database(
            f"{database}?{query}", pool_size=1, statement_timeout=5, prepared_statements=True
        )
        async with pool._connection() as connection:
            raw = connection._transport.get_extra_info("socket")
            assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            assert tuple(raw.getsockopt(socket.IPPROTO_TCP, each) for each in options) == expected
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
        await pool.close()


async def test_a_dead_connection_to_redis_is_replaced(
    redis_server: embedded.Redis, cache: "redis.Redis"
) -> None:
    cache.set(keys.BELTS, "{}")
    with moving_name(redis_server.port) as firewall:
        client = async_client(f"redis://127.0.0.1:{firewall.port}", PINGED)
        await asyncio.gather(*(client.ping() for _ in range(CONNECTIONS)))
        firewall.forget()
        began = monotonic()
        assert (
            await asyncio.gather(*(client.get(keys.BELTS) for _ in range(CONNECTIONS)))
            == [b"{}"] * CONNECTIONS
        )
        assert monotonic() - began < LIMIT
        await client.aclose()


def test_a_publisher_loses_no_event_on_a_dead_connection(
    redis_server: embedded.Redis, cache: "redis.Redis"
) -> None:
    with moving_name(redis_server.port) as firewall:
        url = f"redis://127.0.0.1:{firewall.port}"
        publisher = Publisher(sync_client(url, {"health_check_interval": 1e-6}))
        assert publisher.publish(UserUpdate(1)) == 1
        firewall.forget()
        began = monotonic()
        assert publisher.publish(UserUpdate(2)) == 1
        assert monotonic() - began < LIMIT
        publisher.close()
    assert (publisher.failed, cache.xlen(keys.STREAM)) == (0, 2)
