"""What `statsd doctor` asks of the stream, its group and the dead letters."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from statsd import keys
from statsd.cli.doctor.finding import Finding, Level
from statsd.stream.takeover import GONE

MANY = 10_000  # entries that wait; a daemon accepts as many within seconds
LATE = 60.0  # seconds from when an entry was published until it should be accepted
NAMED = 5  # consumers in one line
NO_GROUP = f"there is no group {keys.GROUP}"
START = "start a daemon: `statsd run`"
MAKES_GROUP = "start a daemon, which makes it: `statsd run`"
SEE_DAEMON = "see whether a daemon runs, and what its log says"


class ConsumerInfo(NamedTuple):
    """One consumer of the group."""

    name: str
    pending: int
    idle: float
    """Seconds since it last did anything."""
    lives: bool
    """Whether it has given a sign of life in the last seconds."""


async def waiting(redis: Redis) -> AsyncIterator[Finding]:
    """How much was published and is not accepted: accepted entries are removed."""
    length = int(await redis.xlen(keys.STREAM))
    group = await _group(redis)
    if group is None:
        what = f"{length} not accepted yet, as {NO_GROUP}" if length else NO_GROUP
        yield Finding(Level.WARNING, "events", what, MAKES_GROUP)
        return
    lag = group.get("lag")
    unread = "an unknown number" if lag is None else str(lag)
    what = f"{length} not accepted yet, {unread} of them not read" if length else "none waits"
    first: Any = await redis.xrange(keys.STREAM, count=1)
    age = await _age(redis, first[0][0]) if first else 0.0
    if age >= 1:
        what += f"; the oldest for {duration(age)}"
    if length >= MANY or age >= LATE:
        yield Finding(Level.WARNING, "events", what, SEE_DAEMON)
    else:
        yield Finding(Level.OK, "events", what)


async def pending(redis: Redis) -> AsyncIterator[Finding]:
    """How much was read and is not acknowledged."""
    if await _group(redis) is None:
        yield Finding(Level.OK, "pending entries", f"none, as {NO_GROUP}")
        return
    summary: Any = await redis.xpending(keys.STREAM, keys.GROUP)
    if not summary["pending"]:
        yield Finding(Level.OK, "pending entries", "none")
        return
    age = await _age(redis, summary["min"])
    what = f"{summary['pending']}, the oldest published {duration(age)} ago"
    if age >= LATE:
        yield Finding(Level.WARNING, "pending entries", what, SEE_DAEMON)
    else:
        yield Finding(Level.OK, "pending entries", what)


async def daemons(redis: Redis) -> AsyncIterator[Finding]:
    """Who consumes."""
    living = [each.name for each in await _consumers(redis) if each.lives]
    if living:
        yield Finding(Level.OK, "daemons", f"{len(living)}: {_listed(living)}")
    else:
        yield Finding(Level.DANGER, "daemons", "none gives a sign of life", START)


async def orphans(redis: Redis) -> AsyncIterator[Finding]:
    """Consumers that are gone, and hold entries or were silent for long."""
    yield gone(await _consumers(redis))


def gone(consumers: Sequence[ConsumerInfo]) -> Finding:
    """Judge the consumers: living daemons take over what others hold, and dismiss the silent."""
    found = [
        f"{each.name} ({each.pending} pending, silent for {duration(each.idle)})"
        for each in consumers
        if not each.lives and (each.pending or each.idle >= GONE)
    ]
    if not found:
        return Finding(Level.OK, "consumers", "none is gone that holds anything")
    what = f"{len(found)} gone, and not taken over: {_listed(found)}"
    advice = "a living daemon does so within half a minute; if not, see its log"
    return Finding(Level.WARNING, "consumers", what, advice)


async def dead_letters(redis: Redis) -> AsyncIterator[Finding]:
    """How much could not be handled."""
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
    signs: Any = await redis.mget([keys.heartbeat(name) for name in names]) if names else []
    return [
        ConsumerInfo(ascii(name)[1:-1], each["pending"], each["idle"] / 1000, sign is not None)
        for name, each, sign in zip(names, found, signs, strict=True)
    ]


async def _age(redis: Redis, entry_id: bytes) -> float:
    """Return how many seconds ago an entry was published, by the server's clock."""
    seconds, micros = await redis.time()
    return max(0.0, seconds + micros / 1e6 - int(entry_id.split(b"-")[0]) / 1000)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def duration(seconds: float) -> str:
    """Return so many seconds in the unit that suits."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
