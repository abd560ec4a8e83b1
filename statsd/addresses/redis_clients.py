"""Clients of Redis for both halves. Every call takes a bounded time, on dead connections too.

A firewall may drop a connection that is idle, without a word to either end. The operating system
therefore probes each connection, and a client pings one that was idle before it uses it.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from statsd.addresses import redis as addresses
from statsd.addresses.redis import RedisAddress
from statsd.errors import SettingsError

log = logging.getLogger("statsd.client")

C = TypeVar("C", redis.Redis, redis.asyncio.Redis)

DEFAULT_URL = "redis://cache:6379"
CONNECT_TIMEOUT = 0.5  # seconds
ANSWER_TIMEOUT = 0.5  # seconds

IDLE = 5.0  # seconds after which a connection is pinged before it is used
PING_TIMEOUT = 1.0  # seconds; the daemon's commands may take longer

KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 10, 5, 3  # seconds, seconds, probes
USER_TIMEOUT = 15_000  # milliseconds for which sent data may lack an acknowledgement

TROUBLE = (RedisError, OSError)
"""The errors of a Redis that cannot be reached or does not answer, timeouts included."""

ASYNC_TROUBLE = (*TROUBLE, RuntimeError)
"""The same with asyncio, where uvloop raises RuntimeError for a write to a lost connection."""


def keepalive_options(
    *,
    idle: int = KEEPALIVE_IDLE,
    interval: int = KEEPALIVE_INTERVAL,
    count: int = KEEPALIVE_COUNT,
    user_timeout: int = USER_TIMEOUT,
) -> dict[int, int]:
    """Return the options of a TCP socket by which the system notices a dead connection."""
    named = {
        "TCP_KEEPIDLE": idle,
        "TCP_KEEPINTVL": interval,
        "TCP_KEEPCNT": count,
        "TCP_USER_TIMEOUT": user_timeout,
    }
    return {getattr(socket, name): value for name, value in named.items() if hasattr(socket, name)}


_BOUNDS: Mapping[str, Any] = {
    "socket_timeout": ANSWER_TIMEOUT,
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "socket_keepalive": True,
    "socket_keepalive_options": keepalive_options(),
    "health_check_interval": IDLE,
    # With RESP3, redis-py 8 listens for maintenance of the server. Its asynchronous client then
    # uses connections that the server has closed.
    "protocol": 2,
}


class _Checked:
    """A connection that is replaced where it does not answer a ping after it was idle."""

    next_health_check: float
    _is_checking = False

    def check_health(self) -> None:
        if self._is_checking or self.next_health_check <= 0:
            return  # it is new: the command itself will tell
        self._is_checking = True
        try:
            super().check_health()  # type: ignore[misc]
        except ResponseError:
            return  # an answer, though perhaps one that denies the ping
        except TROUBLE:
            self.disconnect()  # type: ignore[attr-defined]
            self.connect()  # type: ignore[attr-defined] # with Sentinel, perhaps elsewhere
        finally:
            self._is_checking = False


class _AsyncChecked:
    """As `_Checked`, for asyncio."""

    next_health_check: float
    _is_checking = False

    async def check_health(self) -> None:
        if self._is_checking or self.next_health_check <= 0:
            return
        self._is_checking = True
        try:
            async with asyncio.timeout(PING_TIMEOUT):
                await super().check_health()  # type: ignore[misc]
        except ResponseError:
            return
        except ASYNC_TROUBLE:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            await self.connect()  # type: ignore[attr-defined]
        finally:
            self._is_checking = False


def sync_client(url: str | None, options: Mapping[str, Any]) -> redis.Redis:
    """Return a client whose calls take a bounded time. The first call connects.

    `url` defaults to `REDIS_URL`, and that to `redis://cache:6379`. `options`, of `redis.Redis`,
    override the timeouts. Raises SettingsError for an invalid URL. An invalid `REDIS_URL` must not
    stop a web application: it is logged, and the client's calls fail as without a server.
    """
    settings = {"retry": Retry(NoBackoff(), 0), **_BOUNDS, **options}
    client: redis.Redis = _address(url).client(redis, **settings)
    return with_checks(client, _Checked)


def async_client(url: str | None, options: Mapping[str, Any]) -> redis.asyncio.Redis:
    """As `sync_client`, for asyncio."""
    settings = {"retry": AsyncRetry(NoBackoff(), 0), **_BOUNDS, **options}
    client: redis.asyncio.Redis = _address(url).client(redis.asyncio, **settings)
    return with_checks(client, _AsyncChecked)


def with_checks(client: C, *kinds: type) -> C:
    """Let the connections of a client have the behaviour of some classes."""
    pool: Any = client.connection_pool
    pool.connection_class = type("Connection", (*kinds, pool.connection_class), {})
    return client


def forget_connections(client: redis.Redis) -> None:
    """Let each connection be opened anew before its next use: the server has changed.

    Connections in use are not cut: another thread may be reading from them.
    """
    with suppress(*TROUBLE):
        client.connection_pool.disconnect(inuse_connections=False)
    client.connection_pool.update_active_connections_for_reconnect()


async def aforget_connections(client: redis.asyncio.Redis) -> None:
    """As `forget_connections`, for asyncio."""
    with suppress(*ASYNC_TROUBLE):
        await client.connection_pool.disconnect(inuse_connections=False)
    await client.connection_pool.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]


def close(client: redis.Redis) -> None:
    """Close a client's connections, those to sentinels too."""
    for each in _with_sentinels(client):
        each.close()


async def aclose(client: redis.asyncio.Redis) -> None:
    """As `close`, for asyncio."""
    for each in _with_sentinels(client):
        await each.aclose()


def _with_sentinels(client: Any) -> list[Any]:
    manager = getattr(client.connection_pool, "sentinel_manager", None)
    return [client, *(manager.sentinels if manager else ())]


def _address(url: str | None) -> RedisAddress:
    """Parse an address, or that in the environment."""
    text = url or os.environ.get("REDIS_URL") or DEFAULT_URL
    try:
        return addresses.parse(text)
    except ValueError as error:
        sentence = f"REDIS_URL: {error}"
        if url:
            raise SettingsError(sentence) from None
        # Without a traceback: the operator needs the sentence.
        log.error(  # noqa: TRY400
            "%s; nothing is published, and nothing is read from the cache", sentence
        )
        return RedisAddress({"unix_socket_path": "/dev/null/REDIS_URL-is-wrong"})
