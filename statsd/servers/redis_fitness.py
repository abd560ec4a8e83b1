"""Whether a Redis can be used: what `statsd doctor` says, and what the daemon waits for."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from statsd import keys
from statsd.addresses.redis_clients import aforget_connections
from statsd.addresses.redis_errors import is_moved
from statsd.errors import UnfitServerError
from statsd.servers.finding import Finding, Level, demand
from statsd.servers.redis_client import redis_client

OLDEST = (7, 0)
PROBE_TTL = 60  # seconds

Info = Mapping[str, Any]
"""The reply to INFO, as the client reads it."""


def judged(info: Info) -> Iterator[Finding]:
    """Judge the kind of server, its version, its role and cluster mode."""
    if info.get("redis_mode") == "sentinel":
        advice = "want REDIS_URL=redis+sentinel://host:26379,host:26379/service/0"
        yield Finding(Level.DANGER, "Redis", "it is a sentinel, which has no data", advice, True)
        return
    yield version(info)
    yield role(info)
    yield cluster(info)


def version(info: Info) -> Finding:
    """Judge the version. Valkey also reports the version of Redis that it is compatible with."""
    redis_version = str(info["redis_version"])
    valkey = info.get("valkey_version")
    sentence = f"Valkey {valkey}" if valkey else f"version {redis_version}"
    if tuple(int(part) for part in redis_version.split(".")[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        advice = f"upgrade to {oldest} or newer: older versions are not tested"
        return Finding(Level.WARNING, "Redis", sentence, advice)
    return Finding(Level.OK, "Redis", sentence)


def role(info: Info) -> Finding:
    """Judge the role: a replica cannot be written to, or what is written there is lost."""
    subject = "role of Redis"
    if info["role"] == "master":
        return Finding(Level.OK, subject, "it is the primary")
    advice = "let REDIS_URL name the primary; redis+sentinel:// finds it by itself"
    return Finding(Level.DANGER, subject, "it is a replica", advice)


def cluster(info: Info) -> Finding:
    """Judge cluster mode: the scripts build names of keys themselves."""
    if not info.get("cluster_enabled"):
        return Finding(Level.OK, "cluster mode", "it is off")
    sentence = "it is on, and the daemon's scripts need all keys on one server"
    advice = "let REDIS_URL name a Redis without cluster mode"
    return Finding(Level.DANGER, "cluster mode", sentence, advice, True)


@asynccontextmanager
async def usable_redis(url: str) -> AsyncIterator[Redis]:
    """Yield a client for a command.

    Raises UnfitServerError for a sentinel and in cluster mode, where each command would fail in
    another way.
    """
    async with redis_client(url) as client:
        with suppress(NoPermissionError):  # the command may do without
            demand(each for each in judged(await client.info()) if each.is_setting)
        yield client


async def probe(redis: Redis, *others: Redis) -> None:
    """Fail unless the server can be used and written to.

    A server that is no longer the primary may still have our connections, while the name in the
    URL leads to another one. So these clients then open all connections anew. Raises
    UnfitServerError, and errors of the client.
    """
    try:
        demand(judged(await redis.info()))
        await redis.set(keys.PROBE, 1, ex=PROBE_TTL)
    except Exception as error:
        if is_moved(error) or isinstance(error, UnfitServerError):
            for each in (redis, *others):
                await aforget_connections(each)
        raise
