"""The report of each daemon, kept in Redis for `statsd status`, `top` and `health`."""

import msgspec
from redis.asyncio import Redis

from statsd import keys
from statsd.job import SECOND

KEPT = 3600.0  # seconds that the report of a dead daemon is kept


class DaemonReport(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one daemon at one moment. Durations are in seconds."""

    name: str
    version: str
    started: float
    """Unix seconds of the daemon's host."""
    at: float = 0.0
    """When it reported, in Unix seconds of the Redis server."""
    consumer_silence: float
    """How long ago its consumer last ran; 0 while it waits for a server."""
    loop_lag: float
    """The longest delay of its event loop since the last report."""
    events_per_second: float
    jobs_per_second: float
    latency: dict[str, tuple[float, float, float]]
    """Milliseconds from publishing to cache, by kind: the newest p50, p95 and p99."""
    pool_in_use: int
    pool_size: int
    memory: int
    """Resident memory in bytes."""
    troubles: list[str]
    """Problems of the daemon and of its servers, a sentence each."""
    unready: list[str]
    """Why its values are not yet as they should be, a sentence each; includes the troubles."""


async def put(redis: Redis, report: DaemonReport) -> None:
    """Store a report, and remove the reports of daemons that died long ago."""
    now = await _now(redis)
    raw = msgspec.json.encode(msgspec.structs.replace(report, at=now))
    await redis.hset(keys.DAEMONS, report.name, raw)
    found = await _all(redis)
    gone = [field for field, each in found.items() if each is None or now - each.at > KEPT]
    if gone:
        await redis.hdel(keys.DAEMONS, *gone)


async def remove(redis: Redis, name: str) -> None:
    """Remove the report of a daemon that ends."""
    await redis.hdel(keys.DAEMONS, name)


async def reports(redis: Redis) -> list[DaemonReport]:
    """Return the reports of all daemons, ordered by name, without unreadable ones."""
    found = [each for each in (await _all(redis)).values() if each]
    return sorted(found, key=lambda report: report.name)


async def _all(redis: Redis) -> dict[bytes, DaemonReport | None]:
    found: dict[bytes, bytes] = await redis.hgetall(keys.DAEMONS)  # type: ignore[assignment]
    return {field: _decoded(raw) for field, raw in found.items()}


def _decoded(raw: bytes) -> DaemonReport | None:
    try:
        return msgspec.json.decode(raw, type=DaemonReport)
    except (msgspec.MsgspecError, UnicodeDecodeError):  # written by another version, or by hand
        return None


async def _now(redis: Redis) -> float:
    seconds, micros = await redis.time()
    return float(seconds + micros / SECOND)
