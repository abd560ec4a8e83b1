"""What is seen of a daemon: its heartbeat in the log, its report in Redis, its being well."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from redis.asyncio import Redis

import statsd
from statsd.observability import daemon_report
from statsd.observability.counters import Counters
from statsd.observability.daemon_report import DaemonReport
from statsd.observability.histogram import Histogram
from statsd.observability.loop_lag import LoopLag
from statsd.observability.probes import Probes
from statsd.observability.queue_stats import QueueStats, queue_stats

log = logging.getLogger(__name__)

INTERVAL = 2.0  # seconds between two looks
BLOCKED = 3.0  # seconds without a turn of the event loop
QUANTILES = (0.5, 0.95, 0.99)
_STATM = Path("/proc/self/statm")


@dataclass
class Health:
    """What tells whether this daemon is well. Other threads may ask."""

    loop_lag: LoopLag
    probes: Probes
    silent: Callable[[], float]
    """How long ago the consumer came round, in seconds; 0 while it waits for a server."""
    silent_limit: float
    """Seconds after which it no longer consumes."""
    is_waiting: Callable[[], bool]
    """Whether work waits for a server, or for a table."""
    pool: Callable[[], int]
    """How many connections are lent."""
    pool_size: int
    queue_stats: QueueStats | None = None
    """The last look at Redis."""
    looked: float = field(default_factory=monotonic)
    """When that was (monotonic); before the first one, when this began."""

    def ill(self) -> list[str]:
        """Return why this daemon should be started anew, a sentence each."""
        found = []
        if self.loop_lag.silent > BLOCKED:
            found.append(f"the event loop has not turned for {self.loop_lag.silent:.0f} seconds")
        elif self.silent() > self.silent_limit:
            found.append(f"the consumer has not come round for {self.silent():.0f} seconds")
        return found

    def troubles(self) -> list[str]:
        """Return what is wrong with this daemon or with its servers, a sentence each."""
        found = [*self.ill(), *self.probes.failures.values()]
        if self.is_waiting() and not found:
            found.append("it waits for a server, or for a table: its log says for which")
        return found

    def unready(self) -> list[str]:
        """Return what it waits for before its values are as they should be, a sentence each."""
        is_filled = self.queue_stats is not None and not self.queue_stats.is_filling
        filling = [] if is_filled else ["the cold start, or a rebuild, is not done"]
        return [*self.troubles(), *filling]


class _Window:
    """What came since the last time it was asked."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._began = monotonic()
        self._events = self._jobs = self._merged = 0
        self._waited: dict[str, Histogram] = {}

    def close(self) -> dict[str, Any]:
        """Return the rates, and by kind the quantiles of the time to the cache; begin anew."""
        seconds = max(monotonic() - self._began, 1e-3)
        events, jobs = self._counters.events.total(), self._counters.jobs
        waited = {kind: each.copy() for kind, each in dict(self._counters.waited).items()}
        found = {
            "events_per_second": round((events - self._events) / seconds, 2),
            "refreshes_per_second": round((jobs - self._jobs) / seconds, 2),
            "merged": self._counters.merged - self._merged,
            "latency": {
                kind: [round(each * 1000, 2) for each in new.quantiles(*QUANTILES)]
                for kind, now in waited.items()
                if (new := now.since(self._waited.get(kind))).count
            },
        }
        self._began, self._events, self._jobs = monotonic(), events, jobs
        self._merged, self._waited = self._counters.merged, waited
        return found


class Reporter:
    """Looks at Redis, reports there, and says now and then in the log that all goes on."""

    def __init__(
        self, redis: Redis, name: str, counters: Counters, health: Health, *, heartbeat: float
    ) -> None:
        """`heartbeat` is the seconds between two lines; 0: none."""
        self._redis = redis
        self._name = name
        self._health = health
        self._heartbeat = heartbeat
        self._told = monotonic()
        self._was_silent = False
        self._started = time.time()
        self._recent = _Window(counters)
        self._since_told = _Window(counters)
        self._worst_lag = 0.0
        self._latency: dict[str, Any] = {}

    async def step(self) -> None:
        """Look once; then rest."""
        health = self._health
        seen = await queue_stats(self._redis)
        health.queue_stats, health.looked = seen, monotonic()
        self._tell_silence()
        await daemon_report.put(self._redis, self._report())
        if self._heartbeat and monotonic() - self._told >= self._heartbeat:
            self._told = monotonic()
            self._loop_lag(seen)
        await asyncio.sleep(INTERVAL)

    async def recover(self) -> None:
        """Nothing is to be put right: the next look shows what is there."""

    def _report(self) -> DaemonReport:
        health, recent = self._health, self._recent.close()
        lag = health.loop_lag.worst()
        self._worst_lag = max(self._worst_lag, lag)
        self._latency |= recent["latency"]
        return DaemonReport(
            name=self._name,
            version=statsd.__version__,
            started=self._started,
            silent=round(health.silent(), 3),
            loop_lag=round(lag, 4),
            events_per_second=recent["events_per_second"],
            jobs_per_second=recent["refreshes_per_second"],
            latency=self._latency,
            pool_in_use=health.pool(),
            pool_size=health.pool_size,
            memory=resident(),
            troubles=health.troubles(),
            unready=health.unready(),
        )

    def _loop_lag(self, seen: QueueStats) -> None:
        window = self._since_told.close()
        log.info(
            "heartbeat",
            extra={
                "lag_seconds": round(seen.lag, 3),
                "unread_events": seen.unread_events,
                "pending_events": seen.pending_events,
                "oldest_pending_seconds": round(seen.oldest_pending, 3),
                "pending_jobs": seen.pending_jobs,
                "overdue_seconds": {name: round(each, 3) for name, each in seen.overdue.items()},
                "running": seen.running,
                "delayed": seen.delayed,
                **window,
                "drift": sum(seen.drift.values()),
                "missed_solves": seen.missed,
                "dead_letters": seen.dead,
                "pool_in_use": self._health.pool(),
                "pool_size": self._health.pool_size,
                "loop_lag_milliseconds": round(self._worst_lag * 1000, 1),
                "memory_megabytes": round(resident() / 1e6, 1),
                "ready": not self._health.unready(),
            },
        )
        self._worst_lag = 0.0

    def _tell_silence(self) -> None:
        """Say once that the consumer does not come round, and once that it does again."""
        silent = self._health.silent()
        is_silent = silent > self._health.silent_limit
        if is_silent and not self._was_silent:
            log.warning("the consumer has not come round", extra={"seconds": round(silent, 1)})
        elif self._was_silent and not is_silent:
            log.info("the consumer comes round again")
        self._was_silent = is_silent


def resident() -> int:
    """Return how many bytes of memory this process holds; 0 where the system does not tell."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:  # no Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
