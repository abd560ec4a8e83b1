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
from statsd.observability.counters import Tally
from statsd.observability.histogram import Durations
from statsd.observability.reporter import Vitals

BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 25.0, 100.0),
)
"""Upper bounds in seconds, some of those of `Durations`."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Counts = Mapping[Any, int]


def exposition(tally: Tally, vitals: Vitals) -> bytes:
    """Return all metrics in the text format."""
    registry = CollectorRegistry()
    registry.register(_Collector(tally, vitals))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, tally: Tally, vitals: Vitals) -> None:
        self._tally = tally
        self._vitals = vitals

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily(
            "statsd", "The version that runs.", value={"version": statsd.__version__}
        )
        yield from _done(self._tally)
        yield from _life(self._vitals)
        yield from _seen(self._vitals)


def _done(tally: Tally) -> Iterator[Metric]:
    """Yield what this daemon has done since it started."""
    yield _counter("events", "Events accepted.", ["type"], tally.events)
    yield _counter("event_batches", "Batches of events accepted.", [], {(): tally.batches})
    yield _counter("dead_events", "Events set aside as dead letters.", [], {(): tally.dead_events})
    yield _counter("marks", "Marks set for events.", [], {(): tally.marks})
    yield _counter("merged_marks", "Of those, owed already.", [], {(): tally.merged})
    yield _counter(
        "refreshes", "Answers, by what became of them.", ["kind", "status"], tally.answers
    )
    yield _counter(
        "unchanged_values", "Values that were not written again.", ["kind"], tally.unchanged
    )
    none = dict.fromkeys(tally.kinds, 0)  # so that the first one is seen as an increase
    yield _counter("slow_refreshes", "Refreshes answered slowly.", ["kind"], none | tally.slow)
    yield _counter("failed_refreshes", "Attempts that failed.", ["kind"], none | tally.failures)
    yield _counter(
        "dead_refreshes", "Refreshes set aside as dead letters.", ["kind"], none | tally.buried
    )
    yield _counter(
        "lost_servers", "Times that a server was lost under way.", [], {(): tally.lost_servers}
    )
    yield _histogram(
        "publish_to_cache_seconds",
        "From the publishing of an event until the cache has what it changed.",
        tally.waited,
    )
    yield _histogram(
        "queue_seconds", "How long the oldest of a batch of refreshes was due.", tally.queued
    )
    yield _histogram("refresh_seconds", "How long a batch of refreshes took.", tally.took)


def _life(vitals: Vitals) -> Iterator[Metric]:
    """Yield how this daemon is."""
    yield _gauge("up", "1 while this daemon needs no new start, see /healthz.", not vitals.ill())
    yield _gauge("ready", "1 when /readyz says so.", not vitals.unready())
    yield _gauge(
        "consumer_silent_seconds", "How long ago the consumer came round.", vitals.silent()
    )
    yield _gauge("loop_silent_seconds", "How long ago the event loop turned.", vitals.beat.silent)
    yield _gauge(
        "loop_lag_seconds", "The longest delay of the event loop, lately.", vitals.beat.lately
    )
    yield _gauge(
        "overview_age_seconds",
        "How long ago Redis was looked at for what follows.",
        monotonic() - vitals.looked,
    )
    yield _gauge("pool_connections_in_use", "Connections to PostgreSQL lent.", vitals.pool())
    yield _gauge("pool_connections", "Connections to PostgreSQL at the most.", vitals.pool_size)
    yield _gauges(
        "server_up",
        "1 while the server answers.",
        ["server"],
        {(name,): name not in vitals.probes.failures for name in vitals.probes.names},
    )


def _seen(vitals: Vitals) -> Iterator[Metric]:
    """Yield what the last look at Redis showed; it is the same for all daemons."""
    seen = vitals.overview
    if seen is None:
        return
    yield _gauge("lag_seconds", "Age of the oldest event that is not accepted.", seen.lag)
    yield _gauge("unread_events", "Events that no daemon has read.", seen.unread)
    yield _gauge("pending_events", "Events read and not accepted.", seen.pending)
    yield _gauge("oldest_pending_seconds", "Age of the oldest of those.", seen.oldest_pending)
    yield _gauges("owed_refreshes", "Refreshes owed.", ["class"], _by_class(seen.owed))
    yield _gauges(
        "overdue_seconds",
        "For how long the oldest that nobody works on is due.",
        ["class"],
        _by_class(seen.overdue),
    )
    yield _gauge("working_refreshes", "Refreshes that are worked on.", seen.working)
    yield _gauge("later_marks", "Marks that are set later.", seen.later)
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


def _histogram(name: str, sentence: str, by_kind: Mapping[str, Durations]) -> Metric:
    metric = HistogramMetricFamily(f"statsd_{name}", sentence, labels=["kind"])
    for kind, durations in dict(by_kind).items():
        found = durations.copy()
        counts = zip(BUCKETS, found.buckets(BUCKETS), strict=True)
        buckets = [(str(bound), float(count)) for bound, count in counts]
        metric.add_metric([kind], [*buckets, ("+Inf", float(found.count))], found.total)
    return metric
