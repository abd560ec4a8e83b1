"""Checks of the stream, its consumer group and the dead letters, by `statsd doctor`."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from statsd import keys
from statsd.cli.doctor.clocks import redis_time
from statsd.observability import daemon_report
from statsd.observability.status import duration
from statsd.servers.finding import Finding, Level
from statsd.stream.takeover import GONE

MANY = 10_000  # entries not accepted; a daemon accepts as many within seconds
OLD = 60.0  # seconds; entries should be accepted sooner after their publishing
RECENT = 10.0  # seconds; a daemon reports every two
NAMED = 5  # consumers named in one line, at the most
NO_GROUP = f"there is no group {keys.GROUP}"
START = "start a daemon: `statsd run`"
START_FOR_GROUP = "start a daemon, which creates it: `statsd run`"
SEE_DAEMON = "check that a daemon runs, and read its log"


class ConsumerInfo(NamedTuple):
    """One consumer of the group."""

    name: str
    pending: int
    idle: float
    """Seconds since its last command on the stream."""
    is_alive: bool
    """Whether it has had a heartbeat in the last seconds."""


async def waiting(redis: Redis) -> AsyncIterator[Finding]:
    """Check how many entries are not accepted yet: accepted ones are removed."""
    length = int(await redis.xlen(keys.STREAM))
    group = await _group(redis)
    if group is None:
        sentence = f"{length} not accepted yet, as {NO_GROUP}" if length else NO_GROUP
        yield Finding(Level.WARNING, "events", sentence, START_FOR_GROUP)
        return
    lag = group.get("lag")
    unread = "an unknown number" if lag is None else str(lag)
    sentence = f"{length} not accepted yet, {unread} of them unread" if length else "none waits"
    first: Any = await redis.xrange(keys.STREAM, count=1)
    age = await _age(redis, first[0][0]) if first else 0.0
    if age >= 1:
        sentence += f"; the oldest for {duration(age)}"
    if length >= MANY or age >= OLD:
        yield Finding(Level.WARNING, "events", sentence, SEE_DAEMON)
    else:
        yield Finding(Level.OK, "events", sentence)


async def pending(redis: Redis) -> AsyncIterator[Finding]:
    """Check how many entries were read and are not acknowledged."""
    if await _group(redis) is None:
        yield Finding(Level.OK, "pending entries", f"none, as {NO_GROUP}")
        return
    summary: Any = await redis.xpending(keys.STREAM, keys.GROUP)
    if not summary["pending"]:
        yield Finding(Level.OK, "pending entries", "none")
        return
    age = await _age(redis, summary["min"])
    sentence = f"{summary['pending']}, the oldest published {duration(age)} ago"
    if age >= OLD:
        yield Finding(Level.WARNING, "pending entries", sentence, SEE_DAEMON)
    else:
        yield Finding(Level.OK, "pending entries", sentence)


async def daemons(redis: Redis) -> AsyncIterator[Finding]:
    """Check that a daemon consumes, and tell what each of them says of itself."""
    living = [each.name for each in await _consumers(redis) if each.is_alive]
    if living:
        yield Finding(Level.OK, "daemons", f"{len(living)}: {_listed(living)}")
    else:
        yield Finding(Level.DANGER, "daemons", "none has a heartbeat", START)
    now = await redis_time(redis)
    for report in await daemon_report.reports(redis):
        if now - report.at < RECENT:
            for trouble in report.troubles:
                yield Finding(Level.DANGER, "daemons", f"{report.name}: {trouble}", SEE_DAEMON)


async def orphans(redis: Redis) -> AsyncIterator[Finding]:
    """Check for dead consumers that have pending entries, or are silent for long."""
    yield judge_consumers(await _consumers(redis))


def judge_consumers(consumers: Sequence[ConsumerInfo]) -> Finding:
    """Judge the consumers: living ones take over from dead ones, and remove the silent."""
    dead = [
        f"{each.name} ({each.pending} pending, silent for {duration(each.idle)})"
        for each in consumers
        if not each.is_alive and (each.pending or each.idle >= GONE)
    ]
    if not dead:
        return Finding(Level.OK, "consumers", "no dead one has pending entries")
    sentence = f"{len(dead)} dead, and not taken over: {_listed(dead)}"
    advice = "a living daemon takes over within half a minute; if not, read its log"
    return Finding(Level.WARNING, "consumers", sentence, advice)


async def dead_letters(redis: Redis) -> AsyncIterator[Finding]:
    """Check for events and jobs that failed for good."""
    number = int(await redis.xlen(keys.DEAD_LETTERS))
    if number:
        yield Finding(Level.WARNING, "dead letters", str(number), "see `statsd dead list`")
    else:
        yield Finding(Level.OK, "dead letters", "none")


async def _group(redis: Redis) -> dict[str, Any] | None:
    if not await redis.exists(keys.STREAM):
        return None
    groups: Any = await redis.xinfo_groups(keys.STREAM)
    return next((each for each in groups if each["name"] == keys.GROUP.encode()), None)


async def _consumers(redis: Redis) -> list[ConsumerInfo]:
    if await _group(redis) is None:
        return []
    found: Any = await redis.xinfo_consumers(keys.STREAM, keys.GROUP)
    names = [each["name"].decode(errors="backslashreplace") for each in found]
    heartbeats: Any = await redis.mget([keys.heartbeat(name) for name in names]) if names else []
    return [
        ConsumerInfo(ascii(name)[1:-1], each["pending"], each["idle"] / 1000, beat is not None)
        for name, each, beat in zip(names, found, heartbeats, strict=True)
    ]


async def _age(redis: Redis, entry_id: bytes) -> float:
    """Return how many seconds ago an entry was published, by the server's clock."""
    return max(0.0, await redis_time(redis) - int(entry_id.split(b"-")[0]) / 1000)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
