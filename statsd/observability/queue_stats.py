"""Figures of the stream, the queue and the dead letters, shared by all daemons."""

from collections.abc import Sequence
from typing import Any

import msgspec
import redis as redis_py
from redis.asyncio import Redis

from statsd import keys
from statsd.job import SECOND, Priority
from statsd.jobs.provenance import id_of


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one moment. Durations are in seconds; classes are named by `label`."""

    moment: float
    """That moment, in Unix seconds of the Redis server."""
    unread_events: int
    """Events that no daemon has read yet."""
    pending_events: int
    """Events that were read and are not yet accepted."""
    oldest_pending: float
    """Age of the oldest pending event."""
    lag: float
    """Age of the oldest event that is not yet accepted; 0 where there is none."""
    pending_jobs: dict[str, int]
    """Pending jobs by class, including those that are running or not due yet."""
    overdue: dict[str, float]
    """How long the oldest job that is not running has been due, by class."""
    running: int
    """Running jobs."""
    delayed: int
    """Jobs that will be enqueued later."""
    dead: int
    """The number of dead letters."""
    drift: dict[str, int]
    """Values that had drifted, by kind, since the drift audit began to count."""
    missed: int
    """Solves without an event, since the search for them began to count."""
    is_reconciling: bool
    """Whether a reconcile is pending."""

    @property
    def is_filling(self) -> bool:
        """Whether a cold start, or a rebuild, is under way."""
        return self.is_reconciling or self.pending_jobs[label(Priority.BACKGROUND)] > 0


class _Counts(msgspec.Struct, frozen=True):
    """The counts in the saved states of the drift audit and of the search for missed solves."""

    drift: dict[str, int] = {}
    missed: int = 0


def label(priority: Priority) -> str:
    """Return the name of a class in logs and metrics."""
    return priority.name.lower()


async def queue_stats(redis: Redis) -> QueueStats:
    """Read the figures, in two round trips, changing nothing."""
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.hget(keys.CLOCK, "offset")
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
    """Return replies, None where the consumer group is missing; raise other errors."""
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
    """Return the age of an entry in seconds."""
    return max(0.0, now - id_of(entry.decode())[0] / 1000)


def _counts(state: bytes | None) -> _Counts:
    try:
        return msgspec.json.decode(state or b"{}", type=_Counts)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _Counts()
