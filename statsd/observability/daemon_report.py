"""What each daemon says of itself, in Redis: for `statsd status`, `top` and `health`."""

import msgspec
from redis.asyncio import Redis

from statsd import keys
from statsd.jobs.queue import SECOND

KEPT = 3600.0  # seconds that the report of a daemon that died is kept


class DaemonReport(msgspec.Struct, frozen=True, kw_only=True):
    """One daemon, at one moment. Durations are in seconds."""

    name: str
    version: str
    started: float
    """Unix seconds of this host's clock."""
    at: float = 0.0
    """When it reported, in Unix seconds of Redis' clock."""
    silent: float
    """How long ago its consumer last came round; 0 while it waits for a server."""
    loop_lag: float
    """By how much its event loop was late at the most, lately."""
    events_per_second: float
    jobs_per_second: float
    latency: dict[str, tuple[float, float, float]]
    """Milliseconds from publishing to cache, lately, by kind: p50, p95, p99."""
    pool_in_use: int
    pool_size: int
    memory: int
    """Resident bytes."""
    troubles: list[str]
    """What is wrong with it or with the servers it needs, a sentence each."""
    unready: list[str]
    """What it waits for before its values are as they should be; those troubles among it."""


async def put(redis: Redis, report: DaemonReport) -> None:
    """Leave a report, and remove those of daemons that have been gone for long."""
    now = await _now(redis)
    raw = msgspec.json.encode(msgspec.structs.replace(report, at=now))
    await redis.hset(keys.DAEMONS, report.name, raw)
    found = await _all(redis)
    gone = [field for field, each in found.items() if each is None or now - each.at > KEPT]
    if gone:
        await redis.hdel(keys.DAEMONS, *gone)


async def leave(redis: Redis, name: str) -> None:
    """Remove a report: its daemon ends."""
    await redis.hdel(keys.DAEMONS, name)


async def reports(redis: Redis) -> list[DaemonReport]:
    """Return the reports of all daemons, by name; one that is not understood is left out."""
    found = [each for each in (await _all(redis)).values() if each]
    return sorted(found, key=lambda report: report.name)


async def _all(redis: Redis) -> dict[bytes, DaemonReport | None]:
    found: dict[bytes, bytes] = await redis.hgetall(keys.DAEMONS)  # type: ignore[assignment]
    return {field: _decoded(raw) for field, raw in found.items()}


def _decoded(raw: bytes) -> DaemonReport | None:
    try:
        return msgspec.json.decode(raw, type=DaemonReport)
    except (msgspec.MsgspecError, UnicodeDecodeError):  # another version's, or somebody's hand
        return None


async def _now(redis: Redis) -> float:
    seconds, micros = await redis.time()
    return float(seconds + micros / SECOND)
