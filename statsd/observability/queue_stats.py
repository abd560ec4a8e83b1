"""The whole installation as Redis shows it: what is not accepted, what is owed, what went wrong."""

from collections.abc import Sequence
from typing import Any

import msgspec
import redis as redis_py
from redis.asyncio import Redis

from statsd import keys
from statsd.job import Priority
from statsd.jobs.provenance import id_of
from statsd.jobs.queue import SECOND


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """One look. Durations are in seconds, classes are called as in `Priority`, in lower case."""

    moment: float
    """When that was, in Unix seconds of the server's clock."""
    unread_events: int
    """Events that no daemon has read."""
    pending_events: int
    """Events that were read and are not accepted."""
    oldest_pending: float
    """How long ago the first of those was published."""
    lag: float
    """How long ago the oldest event was published that is not accepted; 0 where there is none."""
    pending_jobs: dict[str, int]
    """How many refreshes are owed, by class, with those that are worked on, rest or wait."""
    overdue: dict[str, float]
    """For how long the oldest of them that nobody works on is due, by class."""
    running: int
    """Refreshes that are worked on."""
    delayed: int
    """Marks that are set later."""
    dead: int
    """Dead letters."""
    drift: dict[str, int]
    """Values that had drifted, by kind, since the audit began to count."""
    missed: int
    """Solves of which no event told in time, since the watch began to count."""
    is_reconciling: bool

    @property
    def is_filling(self) -> bool:
        """Whether a cold start, or a rebuild, is under way."""
        return self.is_reconciling or self.pending_jobs[label(Priority.BACKGROUND)] > 0


class _Counts(msgspec.Struct, frozen=True):
    """What of the states of audit and watch is counted."""

    drift: dict[str, int] = {}
    missed: int = 0


def label(priority: Priority) -> str:
    """Return how a class is called in logs and metrics."""
    return priority.name.lower()


async def queue_stats(redis: Redis) -> QueueStats:
    """Look. It changes nothing, and takes two commands' time."""
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.hget(f"{keys.INTERNAL}clock", "offset")
        (seconds, micros), offset = await pipeline.execute()
    now = seconds + micros / SECOND
    due = now * SECOND + int(offset or 0)
    async with redis.pipeline(transaction=True) as pipeline:
        for priority in Priority:
            pipeline.zcard(keys.due(priority))
        for priority in Priority:
            pipeline.zrange(keys.due(priority), 0, 0, withscores=True)
        pipeline.xlen(keys.STREAM)
        pipeline.xrange(keys.STREAM, count=1)
        pipeline.hlen(keys.LEASES)
        pipeline.zcard(keys.DELAYED)
        pipeline.xlen(keys.DEAD_LETTERS)
        pipeline.mget(keys.AUDIT, keys.WATERMARK)
        pipeline.exists(keys.job("reconcile"))
        pipeline.xpending(keys.STREAM, keys.GROUP)
        found = _checked(await pipeline.execute(raise_on_error=False))
    classes = [label(priority) for priority in Priority]
    pending_jobs, first = found[: len(classes)], found[len(classes) : 2 * len(classes)]
    length, oldest, running, delayed, dead, states, reconciling, group = found[2 * len(classes) :]
    pending = group["pending"] if group else 0
    drift, missed = map(_counts, states)
    return QueueStats(
        moment=now,
        unread_events=max(0, length - pending),
        pending_events=pending,
        oldest_pending=_ago(now, group["min"]) if pending else 0.0,
        lag=_ago(now, oldest[0][0]) if oldest else 0.0,
        pending_jobs=dict(zip(classes, pending_jobs, strict=True)),
        overdue={
            name: max(0.0, (due - head[0][1]) / SECOND) if head else 0.0
            for name, head in zip(classes, first, strict=True)
        },
        running=running,
        delayed=delayed,
        dead=dead,
        drift=drift.drift,
        missed=missed.missed,
        is_reconciling=bool(reconciling),
    )


def _checked(replies: Sequence[Any]) -> list[Any]:
    """Return replies, None for what there is no group for; raise other errors."""
    found: list[Any] = []
    for reply in replies:
        if isinstance(reply, redis_py.ResponseError) and str(reply).startswith("NOGROUP"):
            found.append(None)
        elif isinstance(reply, Exception):
            raise reply
        else:
            found.append(reply)
    return found


def _ago(now: float, entry: bytes) -> float:
    """Return how many seconds ago an entry was published."""
    return max(0.0, now - id_of(entry.decode())[0] / 1000)


def _counts(state: bytes | None) -> _Counts:
    try:
        return msgspec.json.decode(state or b"{}", type=_Counts)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _Counts()
