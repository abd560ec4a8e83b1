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
from statsd.observability.counters import Tally
from statsd.observability.daemon_report import Report
from statsd.observability.histogram import Durations
from statsd.observability.loop_lag import Beat
from statsd.observability.probes import Probes
from statsd.observability.queue_stats import Overview, overview

log = logging.getLogger(__name__)

INTERVAL = 2.0  # seconds between two looks
BLOCKED = 3.0  # seconds without a turn of the event loop
QUANTILES = (0.5, 0.95, 0.99)
_STATM = Path("/proc/self/statm")


@dataclass
class Vitals:
    """What tells whether this daemon is well. Other threads may ask."""

    beat: Beat
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
    overview: Overview | None = None
    """The last look at Redis."""
    looked: float = field(default_factory=monotonic)
    """When that was (monotonic); before the first one, when this began."""

    def ill(self) -> list[str]:
        """Return why this daemon should be started anew, a sentence each."""
        found = []
        if self.beat.silent > BLOCKED:
            found.append(f"the event loop has not turned for {self.beat.silent:.0f} seconds")
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
        is_filled = self.overview is not None and not self.overview.is_filling
        filling = [] if is_filled else ["the cold start, or a rebuild, is not done"]
        return [*self.troubles(), *filling]


class _Window:
    """What came since the last time it was asked."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._began = monotonic()
        self._events = self._refreshes = self._merged = 0
        self._waited: dict[str, Durations] = {}

    def close(self) -> dict[str, Any]:
        """Return the rates, and by kind the quantiles of the time to the cache; begin anew."""
        seconds = max(monotonic() - self._began, 1e-3)
        events, refreshes = self._tally.events.total(), self._tally.refreshes
        waited = {kind: each.copy() for kind, each in dict(self._tally.waited).items()}
        found = {
            "events_per_second": round((events - self._events) / seconds, 2),
            "refreshes_per_second": round((refreshes - self._refreshes) / seconds, 2),
            "merged": self._tally.merged - self._merged,
            "latency": {
                kind: [round(each * 1000, 2) for each in new.quantiles(*QUANTILES)]
                for kind, now in waited.items()
                if (new := now.since(self._waited.get(kind))).count
            },
        }
        self._began, self._events, self._refreshes = monotonic(), events, refreshes
        self._merged, self._waited = self._tally.merged, waited
        return found


class Sight:
    """Looks at Redis, reports there, and says now and then in the log that all goes on."""

    def __init__(
        self, redis: Redis, name: str, tally: Tally, vitals: Vitals, *, heartbeat: float
    ) -> None:
        """`heartbeat` is the seconds between two lines; 0: none."""
        self._redis = redis
        self._name = name
        self._vitals = vitals
        self._heartbeat = heartbeat
        self._told = monotonic()
        self._was_silent = False
        self._started = time.time()
        self._recent = _Window(tally)
        self._since_told = _Window(tally)
        self._worst_lag = 0.0
        self._latency: dict[str, Any] = {}

    async def step(self) -> None:
        """Look once; then rest."""
        vitals = self._vitals
        seen = await overview(self._redis)
        vitals.overview, vitals.looked = seen, monotonic()
        self._tell_silence()
        await daemon_report.put(self._redis, self._report())
        if self._heartbeat and monotonic() - self._told >= self._heartbeat:
            self._told = monotonic()
            self._beat(seen)
        await asyncio.sleep(INTERVAL)

    async def recover(self) -> None:
        """Nothing is to be put right: the next look shows what is there."""

    def _report(self) -> Report:
        vitals, recent = self._vitals, self._recent.close()
        lag = vitals.beat.worst()
        self._worst_lag = max(self._worst_lag, lag)
        self._latency |= recent["latency"]
        return Report(
            name=self._name,
            version=statsd.__version__,
            started=self._started,
            silent=round(vitals.silent(), 3),
            loop_lag=round(lag, 4),
            events_per_second=recent["events_per_second"],
            refreshes_per_second=recent["refreshes_per_second"],
            latency=self._latency,
            pool_in_use=vitals.pool(),
            pool_size=vitals.pool_size,
            memory=resident(),
            troubles=vitals.troubles(),
            unready=vitals.unready(),
        )

    def _beat(self, seen: Overview) -> None:
        window = self._since_told.close()
        log.info(
            "heartbeat",
            extra={
                "lag_seconds": round(seen.lag, 3),
                "unread": seen.unread,
                "pending": seen.pending,
                "oldest_pending_seconds": round(seen.oldest_pending, 3),
                "owed": seen.owed,
                "overdue_seconds": {name: round(each, 3) for name, each in seen.overdue.items()},
                "working": seen.working,
                "later": seen.later,
                **window,
                "drift": sum(seen.drift.values()),
                "missed_solves": seen.missed,
                "dead_letters": seen.dead,
                "pool_in_use": self._vitals.pool(),
                "pool_size": self._vitals.pool_size,
                "loop_lag_milliseconds": round(self._worst_lag * 1000, 1),
                "memory_megabytes": round(resident() / 1e6, 1),
                "ready": not self._vitals.unready(),
            },
        )
        self._worst_lag = 0.0

    def _tell_silence(self) -> None:
        """Say once that the consumer does not come round, and once that it does again."""
        silent = self._vitals.silent()
        is_silent = silent > self._vitals.silent_limit
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
