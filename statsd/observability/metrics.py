"""The metrics for Prometheus, made at each request from counters and health."""

from collections.abc import Iterable, Iterator, Mapping
from time import monotonic
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

import statsd
from statsd.observability.counters import Counters
from statsd.observability.health import Health
from statsd.observability.histogram import Histogram
from statsd.observability.logs import dropped_lines

BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 25.0, 100.0),
)
"""Upper bounds in seconds, chosen from those of `Histogram`."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Counts = Mapping[Any, int]


def exposition(counters: Counters, health: Health) -> bytes:
    """Return all metrics in the text format."""
    registry = CollectorRegistry()
    registry.register(_Collector(counters, health))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, counters: Counters, health: Health) -> None:
        self._counters = counters
        self._health = health

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily(
            "statsd", "The version of this daemon.", value={"version": statsd.__version__}
        )
        yield from _work(self._counters)
        yield from _daemon(self._health)
        yield from _queue(self._health)


def _work(counters: Counters) -> Iterator[Metric]:
    """Yield the metrics of this daemon's work since it started."""
    yield _counter("events", "Events accepted.", ["type"], counters.events)
    yield _counter("event_batches", "Batches of events accepted.", [], {(): counters.batches})
    yield _counter(
        "dead_events", "Events that went to the dead letters.", [], {(): counters.dead_events}
    )
    yield _counter("enqueued_jobs", "Jobs enqueued for events.", [], {(): counters.enqueued})
    yield _counter("merged_jobs", "Of those, pending already.", [], {(): counters.merged})
    yield _counter("jobs", "Answered jobs, by status.", ["kind", "status"], counters.answers)
    yield _counter(
        "unchanged_values",
        "Values not written, since the cache had the same.",
        ["kind"],
        counters.unchanged,
    )
    none = dict.fromkeys(counters.kinds, 0)  # so that increase() counts the first one
    yield _counter("slow_jobs", "Jobs in batches that took long.", ["kind"], none | counters.slow)
    yield _counter("failed_jobs", "Failed attempts at jobs.", ["kind"], none | counters.failures)
    yield _counter(
        "dead_jobs", "Jobs that went to the dead letters.", ["kind"], none | counters.buried
    )
    yield _counter(
        "lost_servers",
        "Outages of a server that interrupted work.",
        [],
        {(): counters.lost_servers},
    )
    yield _histogram(
        "publish_to_cache_seconds",
        "From the publishing of an event until the cache has its effect.",
        counters.waited,
    )
    yield _histogram(
        "queue_seconds", "How long the oldest job of a batch had been due.", counters.queued
    )
    yield _histogram("job_seconds", "How long a batch of jobs took.", counters.took)


def _daemon(health: Health) -> Iterator[Metric]:
    """Yield the metrics of this daemon's health."""
    live = health.liveness
    yield _gauge("up", "1 while this daemon needs no restart, see /healthz.", not live.problems())
    yield _gauge("ready", "1 when /readyz answers 200.", not health.unready())
    yield _gauge(
        "consumer_silent_seconds", "Time since the consumer last ran.", live.consumer_silence
    )
    yield _gauge("loop_silent_seconds", "Time since the event loop last ran.", live.loop_silence)
    yield _gauge("loop_lag_seconds", "The longest recent delay of the event loop.", live.recent_lag)
    yield _gauge(
        "queue_stats_age_seconds",
        "Age of the figures from Redis.",
        monotonic() - health.queue_stats_at,
    )
    yield _counter(
        "dropped_log_lines",
        "Lines that the log dropped, since nobody read it.",
        [],
        {(): dropped_lines()},
    )
    yield _gauge(
        "pool_connections_in_use", "Connections to PostgreSQL in use.", health.pool_in_use()
    )
    yield _gauge("pool_connections", "The most connections to PostgreSQL.", health.pool_size)
    yield _gauges(
        "server_up",
        "1 while the server answers.",
        ["server"],
        {(name,): name not in health.probes.failures for name in health.probes.names},
    )


def _queue(health: Health) -> Iterator[Metric]:
    """Yield the metrics of the queue, which are the same for all daemons."""
    stats = health.queue_stats
    if stats is None:
        return
    yield _gauge("lag_seconds", "Age of the oldest event that is not yet accepted.", stats.lag)
    yield _gauge("unread_events", "Events that no daemon has read yet.", stats.unread_events)
    yield _gauge("pending_events", "Events read and not yet accepted.", stats.pending_events)
    yield _gauge("oldest_pending_seconds", "Age of the oldest pending event.", stats.oldest_pending)
    yield _gauges("pending_jobs", "Pending jobs.", ["class"], _by_class(stats.pending_jobs))
    yield _gauges(
        "overdue_seconds",
        "How long the oldest job that is not running has been due.",
        ["class"],
        _by_class(stats.overdue),
    )
    yield _gauge("running_jobs", "Running jobs.", stats.running)
    yield _gauge("delayed_jobs", "Jobs that will be enqueued later.", stats.delayed)
    yield _gauge("dead_letters", "Dead letters.", stats.dead)
    yield _counter(
        "drifted_values", "Values that had drifted, counted by all daemons.", ["kind"], stats.drift
    )
    yield _counter(
        "missed_solves",
        "Solves without an event, counted by all daemons.",
        [],
        {(): stats.missed},
    )


def _by_class(values: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(name,): value for name, value in values.items()}


def _counter(name: str, sentence: str, labels: list[str], counts: Counts) -> Metric:
    metric = CounterMetricFamily(f"statsd_{name}", sentence, labels=labels)
    for key, count in dict(counts).items():
        metric.add_metric(list(key) if isinstance(key, tuple) else [key], count)
    return metric


def _gauge(name: str, sentence: str, value: float) -> Metric:
    return GaugeMetricFamily(f"statsd_{name}", sentence, value=float(value))


def _gauges(
    name: str, sentence: str, labels: list[str], values: Mapping[tuple[str, ...], float]
) -> Metric:
    metric = GaugeMetricFamily(f"statsd_{name}", sentence, labels=labels)
    for key, value in values.items():
        metric.add_metric(list(key), float(value))
    return metric


def _histogram(name: str, sentence: str, by_kind: Mapping[str, Histogram]) -> Metric:
    metric = HistogramMetricFamily(f"statsd_{name}", sentence, labels=["kind"])
    for kind, histogram in dict(by_kind).items():
        found = histogram.copy()
        counts = zip(BUCKETS, found.buckets(BUCKETS), strict=True)
        buckets = [(str(bound), float(count)) for bound, count in counts]
        metric.add_metric([kind], [*buckets, ("+Inf", float(found.count))], found.total)
    return metric
