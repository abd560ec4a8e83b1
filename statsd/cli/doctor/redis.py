"""What `statsd doctor` asks of Redis or Valkey as a server."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from redis import ResponseError
from redis.asyncio import Redis

from statsd.cli.doctor.finding import Finding, Level
from statsd.servers.redis_client import checked
from statsd.stream.event_stream import UNSAFE_ACKDEL, knows_ackdel

OLDEST = (7, 0)
FULL = 0.9  # of maxmemory
MIB = 2**20

Info = Mapping[str, Any]
"""A section of INFO, as the client reads it."""


async def server(redis: Redis) -> AsyncIterator[Finding]:
    """Whether it serves, and is new enough."""
    await checked(redis.ping)()
    try:
        info = await redis.info("server")
    except ResponseError:
        advice = "allow it: the daemon asks the same at its start, and ends where it may not"
        yield Finding(Level.DANGER, "Redis", "INFO is refused", advice)
    else:
        yield version(info)


def version(info: Info) -> Finding:
    """Judge the version; Valkey tells of one of Redis that it is like."""
    redis = str(info["redis_version"])
    valkey = info.get("valkey_version")
    name = f"Valkey {valkey}" if valkey else f"version {redis}"
    if tuple(int(part) for part in redis.split(".")[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return Finding(Level.DANGER, "Redis", name, f"upgrade to {oldest} or newer")
    return Finding(Level.OK, "Redis", name)


async def acknowledging(redis: Redis) -> AsyncIterator[Finding]:
    """By which commands entries are acknowledged and removed."""
    redis_version = str((await redis.info("server"))["redis_version"])
    yield strategy(redis_version, knows=await knows_ackdel(redis))


def strategy(redis_version: str, *, knows: bool) -> Finding:
    """Judge them, for a version of Redis that `knows` XACKDEL or does not."""
    if redis_version in UNSAFE_ACKDEL:
        what = f"XACK and XDEL, as the XACKDEL of {redis_version} can bring the server down"
        return Finding(Level.WARNING, "acknowledging", what, "upgrade Redis to 8.2.3 or newer")
    return Finding(Level.OK, "acknowledging", "XACKDEL" if knows else "XACK and XDEL")


async def role(redis: Redis) -> AsyncIterator[Finding]:
    """Whether it is the primary, which alone can be written to."""
    if (await redis.info("replication"))["role"] == "master":
        yield Finding(Level.OK, "role of Redis", "it is the primary")
    else:
        advice = "let REDIS_URL name the primary"
        yield Finding(Level.DANGER, "role of Redis", "it is a replica", advice)


async def cluster(redis: Redis) -> AsyncIterator[Finding]:
    """Whether keys may lie on any server: the scripts name keys by themselves."""
    if (await redis.info("cluster")).get("cluster_enabled"):
        what = "it is on, and the daemon's scripts need all keys on one server"
        yield Finding(Level.DANGER, "cluster mode", what, "use a Redis without cluster mode")
    else:
        yield Finding(Level.OK, "cluster mode", "it is off")


async def memory(redis: Redis) -> AsyncIterator[Finding]:
    """How much is left, and what happens when nothing is."""
    for finding in memory_of(await redis.info("memory")):
        yield finding


def memory_of(info: Info) -> Iterator[Finding]:
    """Judge the memory and the policy; without a limit nothing is evicted."""
    used, limit = int(info["used_memory"]), int(info["maxmemory"])
    policy = str(info["maxmemory_policy"])
    of = f" of {limit / MIB:.0f}" if limit else ""
    what = f"{used / MIB:.0f}{of} MiB are used"
    if limit and used >= limit * FULL:
        yield Finding(Level.WARNING, "memory", what, "raise maxmemory: full, it takes no events")
    else:
        yield Finding(Level.OK, "memory", what)
    if policy == "noeviction":
        yield Finding(Level.OK, "eviction", policy)
    elif limit:
        advice = "set maxmemory-policy noeviction: events and what is owed are in there, too"
        yield Finding(Level.WARNING, "eviction", policy, advice)
    else:
        what = f"{policy}, without a maxmemory that could be reached; better is noeviction"
        yield Finding(Level.OK, "eviction", what)


async def persistence(redis: Redis) -> AsyncIterator[Finding]:
    """Whether a restart keeps what was published and is owed."""
    if (await redis.info("persistence")).get("aof_enabled"):
        yield Finding(Level.OK, "persistence", "appendonly is on")
    else:
        advice = "set appendonly yes: else a restart brings back older data, or none"
        yield Finding(Level.WARNING, "persistence", "appendonly is off", advice)
