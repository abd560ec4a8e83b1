"""The metrics as Prometheus reads them, made when asked for of what was counted and seen."""

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
from statsd.observability.histogram import Histogram
from statsd.observability.reporter import Health

BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 25.0, 100.0),
)
"""Upper bounds in seconds, some of those of `Histogram`."""
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
            "statsd", "The version that runs.", value={"version": statsd.__version__}
        )
        yield from _done(self._counters)
        yield from _life(self._health)
        yield from _seen(self._health)


def _done(counters: Counters) -> Iterator[Metric]:
    """Yield what this daemon has done since it started."""
    yield _counter("events", "Events accepted.", ["type"], counters.events)
    yield _counter("event_batches", "Batches of events accepted.", [], {(): counters.batches})
    yield _counter(
        "dead_events", "Events set aside as dead letters.", [], {(): counters.dead_events}
    )
    yield _counter("marks", "Marks set for events.", [], {(): counters.enqueued})
    yield _counter("merged_marks", "Of those, owed already.", [], {(): counters.merged})
    yield _counter("jobs", "Answers, by what became of them.", ["kind", "status"], counters.answers)
    yield _counter(
        "unchanged_values", "Values that were not written again.", ["kind"], counters.unchanged
    )
    none = dict.fromkeys(counters.kinds, 0)  # so that the first one is seen as an increase
    yield _counter("slow_refreshes", "Refreshes answered slowly.", ["kind"], none | counters.slow)
    yield _counter("failed_refreshes", "Attempts that failed.", ["kind"], none | counters.failures)
    yield _counter(
        "dead_refreshes", "Refreshes set aside as dead letters.", ["kind"], none | counters.buried
    )
    yield _counter(
        "lost_servers", "Times that a server was lost under way.", [], {(): counters.lost_servers}
    )
    yield _histogram(
        "publish_to_cache_seconds",
        "From the publishing of an event until the cache has what it changed.",
        counters.waited,
    )
    yield _histogram(
        "queue_seconds", "How long the oldest of a batch of refreshes was due.", counters.queued
    )
    yield _histogram("refresh_seconds", "How long a batch of refreshes took.", counters.took)


def _life(health: Health) -> Iterator[Metric]:
    """Yield how this daemon is."""
    yield _gauge("up", "1 while this daemon needs no new start, see /healthz.", not health.ill())
    yield _gauge("ready", "1 when /readyz says so.", not health.unready())
    yield _gauge(
        "consumer_silent_seconds", "How long ago the consumer came round.", health.silent()
    )
    yield _gauge(
        "loop_silent_seconds", "How long ago the event loop turned.", health.loop_lag.silent
    )
    yield _gauge(
        "loop_lag_seconds", "The longest delay of the event loop, lately.", health.loop_lag.lately
    )
    yield _gauge(
        "overview_age_seconds",
        "How long ago Redis was looked at for what follows.",
        monotonic() - health.looked,
    )
    yield _gauge("pool_connections_in_use", "Connections to PostgreSQL lent.", health.pool())
    yield _gauge("pool_connections", "Connections to PostgreSQL at the most.", health.pool_size)
    yield _gauges(
        "server_up",
        "1 while the server answers.",
        ["server"],
        {(name,): name not in health.probes.failures for name in health.probes.names},
    )


def _seen(health: Health) -> Iterator[Metric]:
    """Yield what the last look at Redis showed; it is the same for all daemons."""
    seen = health.queue_stats
    if seen is None:
        return
    yield _gauge("lag_seconds", "Age of the oldest event that is not accepted.", seen.lag)
    yield _gauge("unread_events", "Events that no daemon has read.", seen.unread_events)
    yield _gauge("pending_events", "Events read and not accepted.", seen.pending_events)
    yield _gauge("oldest_pending_seconds", "Age of the oldest of those.", seen.oldest_pending)
    yield _gauges("owed_refreshes", "Refreshes owed.", ["class"], _by_class(seen.pending_jobs))
    yield _gauges(
        "overdue_seconds",
        "For how long the oldest that nobody works on is due.",
        ["class"],
        _by_class(seen.overdue),
    )
    yield _gauge("working_refreshes", "Refreshes that are worked on.", seen.running)
    yield _gauge("later_marks", "Marks that are set later.", seen.delayed)
    yield _gauge("dead_letters", "Dead letters.", seen.dead)
    yield _counter(
        "drifted_values", "Values that had drifted, by all daemons.", ["kind"], seen.drift
    )
    yield _counter(
        "missed_solves",
        "Solves of which no event told in time, by all daemons.",
        [],
        {(): seen.missed},
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
