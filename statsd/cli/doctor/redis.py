"""Checks of the Redis or Valkey server, by `statsd doctor`."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from redis import ResponseError
from redis.asyncio import Redis

from statsd import keys
from statsd.servers.finding import Finding, Level
from statsd.servers.outages import checked
from statsd.servers.redis_fitness import PROBE_TTL, judged
from statsd.stream.event_stream import UNSAFE_ACKDEL, knows_ackdel

FULL = 0.9  # part of maxmemory
MIB = 2**20

Info = Mapping[str, Any]
"""A section of INFO, as the client reads it."""


async def server(redis: Redis) -> AsyncIterator[Finding]:
    """Check that it serves, and that it is of a kind, a version and a role that can be used."""
    await checked(redis.ping)()
    try:
        info = await redis.info()
    except ResponseError:
        advice = "allow INFO: the daemon needs it, and waits without it"
        yield Finding(Level.DANGER, "Redis", "INFO is refused", advice)
    else:
        for finding in judged(info):
            yield finding


async def acknowledging(redis: Redis) -> AsyncIterator[Finding]:
    """Report the commands by which entries are acknowledged and removed."""
    redis_version = str((await redis.info("server"))["redis_version"])
    yield strategy(redis_version, knows=await knows_ackdel(redis))


def strategy(redis_version: str, *, knows: bool) -> Finding:
    """Judge the commands, for a version of Redis that `knows` XACKDEL or does not."""
    if redis_version in UNSAFE_ACKDEL:
        sentence = f"XACK and XDEL, as the XACKDEL of {redis_version} can crash the server"
        return Finding(Level.WARNING, "acknowledging", sentence, "upgrade Redis to 8.2.3 or newer")
    return Finding(Level.OK, "acknowledging", "XACKDEL" if knows else "XACK and XDEL")


async def writing(redis: Redis) -> AsyncIterator[Finding]:
    """Check that it takes writes, by one key that expires by itself."""
    await redis.set(keys.PROBE, 1, ex=PROBE_TTL)
    yield Finding(Level.OK, "writing", "it is possible")


async def memory(redis: Redis) -> AsyncIterator[Finding]:
    """Check the free memory, and the policy for a full memory."""
    for finding in memory_of(await redis.info("memory")):
        yield finding


def memory_of(info: Info) -> Iterator[Finding]:
    """Judge the used memory and the policy; without maxmemory nothing is evicted."""
    used, limit = int(info["used_memory"]), int(info["maxmemory"])
    policy = str(info["maxmemory_policy"])
    of_limit = f" of {limit / MIB:.0f}" if limit else ""
    usage = f"{used / MIB:.0f}{of_limit} MiB are used"
    if limit and used >= limit * FULL:
        advice = "raise maxmemory: a full Redis takes no events"
        yield Finding(Level.WARNING, "memory", usage, advice)
    else:
        yield Finding(Level.OK, "memory", usage)
    if policy == "noeviction":
        yield Finding(Level.OK, "eviction", policy)
    elif limit:
        advice = "set maxmemory-policy noeviction: events and pending jobs must not be evicted"
        yield Finding(Level.WARNING, "eviction", policy, advice)
    else:
        sentence = f"{policy}, without a maxmemory that could be reached; noeviction is better"
        yield Finding(Level.OK, "eviction", sentence)


async def persistence(redis: Redis) -> AsyncIterator[Finding]:
    """Check that published events and pending jobs survive a restart."""
    if (await redis.info("persistence")).get("aof_enabled"):
        yield Finding(Level.OK, "persistence", "appendonly is on")
    else:
        advice = "set appendonly yes: otherwise a restart brings back older data, or none"
        yield Finding(Level.WARNING, "persistence", "appendonly is off", advice)
