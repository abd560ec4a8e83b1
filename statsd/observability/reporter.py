"""The reporter: a report in Redis every two seconds, and the heartbeat in the log."""

import asyncio
import logging
import os
import time
from pathlib import Path
from time import monotonic
from typing import Any

from redis.asyncio import Redis

import statsd
from statsd.observability import daemon_report
from statsd.observability.counters import Counters
from statsd.observability.daemon_report import DaemonReport
from statsd.observability.health import Health
from statsd.observability.histogram import Histogram
from statsd.observability.queue_stats import QueueStats, queue_stats

log = logging.getLogger(__name__)

INTERVAL = 2.0  # seconds between two reports
QUANTILES = (0.5, 0.95, 0.99)
STATM = Path("/proc/self/statm")


class _Window:
    """What was counted since the last call."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._began = monotonic()
        self._events = self._jobs = self._merged = 0
        self._latency: dict[str, Histogram] = {}

    def close(self) -> dict[str, Any]:
        """Return rates, and the quantiles of the latency by kind; begin the next window."""
        seconds = max(monotonic() - self._began, 1e-3)
        events, jobs = self._counters.events.total(), self._counters.jobs
        latency = {kind: each.copy() for kind, each in dict(self._counters.waited).items()}
        found = {
            "events_per_second": round((events - self._events) / seconds, 2),
            "jobs_per_second": round((jobs - self._jobs) / seconds, 2),
            "merged": self._counters.merged - self._merged,
            "latency": {
                kind: [round(each * 1000, 2) for each in new.quantiles(*QUANTILES)]
                for kind, now in latency.items()
                if (new := now.since(self._latency.get(kind))).count
            },
        }
        self._began, self._events, self._jobs = monotonic(), events, jobs
        self._merged, self._latency = self._counters.merged, latency
        return found


class Reporter:
    """Reads the queue's figures for the health, reports to Redis, and logs the heartbeat."""

    def __init__(
        self, redis: Redis, name: str, counters: Counters, health: Health, *, heartbeat: float
    ) -> None:
        """`heartbeat` is the seconds between two lines; 0: none."""
        self._redis = redis
        self._name = name
        self._health = health
        self._heartbeat = heartbeat
        self._heartbeat_at = monotonic()
        self._started = time.time()
        self._since_report = _Window(counters)
        self._since_heartbeat = _Window(counters)
        self._worst_lag = 0.0
        self._latency: dict[str, Any] = {}

    async def step(self) -> None:
        """Report once; then sleep."""
        health = self._health
        stats = await queue_stats(self._redis)
        health.queue_stats, health.queue_stats_at = stats, monotonic()
        await daemon_report.put(self._redis, self._report())
        if self._heartbeat and monotonic() - self._heartbeat_at >= self._heartbeat:
            self._heartbeat_at = monotonic()
            self._log_heartbeat(stats)
        await asyncio.sleep(INTERVAL)

    async def recover(self) -> None:
        """Do nothing: the next step reads everything again."""

    def _report(self) -> DaemonReport:
        health, recent = self._health, self._since_report.close()
        lag = health.liveness.take_lag()
        self._worst_lag = max(self._worst_lag, lag)
        self._latency |= recent["latency"]
        return DaemonReport(
            name=self._name,
            version=statsd.__version__,
            started=self._started,
            consumer_silence=round(health.liveness.consumer_silence, 3),
            loop_lag=round(lag, 4),
            events_per_second=recent["events_per_second"],
            jobs_per_second=recent["jobs_per_second"],
            latency=self._latency,
            pool_in_use=health.pool_in_use(),
            pool_size=health.pool_size,
            memory=resident(),
            troubles=health.troubles(),
            unready=health.unready(),
        )

    def _log_heartbeat(self, stats: QueueStats) -> None:
        log.info(
            "heartbeat",
            extra={
                "lag_seconds": round(stats.lag, 3),
                "unread_events": stats.unread_events,
                "pending_events": stats.pending_events,
                "oldest_pending_seconds": round(stats.oldest_pending, 3),
                "pending_jobs": stats.pending_jobs,
                "overdue_seconds": {name: round(each, 3) for name, each in stats.overdue.items()},
                "running": stats.running,
                "delayed": stats.delayed,
                **self._since_heartbeat.close(),
                "drift": sum(stats.drift.values()),
                "missed_solves": stats.missed,
                "dead_letters": stats.dead,
                "pool_in_use": self._health.pool_in_use(),
                "pool_size": self._health.pool_size,
                "loop_lag_milliseconds": round(self._worst_lag * 1000, 1),
                "memory_megabytes": round(resident() / 1e6, 1),
                "ready": not self._health.unready(),
            },
        )
        self._worst_lag = 0.0


def resident() -> int:
    """Return this process's resident memory in bytes; 0 where there is no /proc."""
    try:
        pages = int(STATM.read_text().split()[1])
    except OSError:  # no Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
