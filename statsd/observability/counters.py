"""Counters of one daemon since it started, for its heartbeat and its metrics."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from statsd.jobs.attempt import Completion
from statsd.observability.histogram import Histogram


class Counters:
    """Counters that only grow. The event loop adds to them, the HTTP threads read them."""

    def __init__(self) -> None:
        self.kinds: Sequence[str] = ()
        """The kinds of job that this daemon answers."""
        self.events: Counter[str] = Counter()
        """Accepted events, by type."""
        self.dead_events = 0
        self.batches = 0
        self.enqueued = 0
        """Jobs enqueued for events."""
        self.merged = 0
        """Those of them that were pending already."""
        self.answers: Counter[tuple[str, str]] = Counter()
        """By kind and status: see `statsd.jobs.queue.Completion`."""
        self.unchanged: Counter[str] = Counter()
        """Values that were not written, since the cache had the same, by kind."""
        self.slow: Counter[str] = Counter()
        """Slow batches of jobs, by kind."""
        self.failures: Counter[str] = Counter()
        """Failed attempts, by kind."""
        self.buried: Counter[str] = Counter()
        """Jobs that went to the dead letters, by kind."""
        self.lost_servers = 0
        self.queued: dict[str, Histogram] = defaultdict(Histogram)
        """How long the oldest job of each batch had been due, by kind."""
        self.took: dict[str, Histogram] = defaultdict(Histogram)
        """How long each batch took, by kind."""
        self.waited: dict[str, Histogram] = defaultdict(Histogram)
        """From an event's publishing until the cache had its effect, by kind of job."""

    def accepted(self, types: Iterable[str], *, dead: int, enqueued: int, merged: int) -> None:
        """Count a batch of events."""
        self.events.update(types)
        self.batches += 1
        self.dead_events += dead
        self.enqueued += enqueued
        self.merged += merged

    def answered(
        self, kind: str, completed: Sequence[Completion], *, queued: float, took: float
    ) -> None:
        """Count a batch of jobs; durations are in seconds."""
        self.queued[kind].add(queued)
        self.took[kind].add(took)
        for each in completed:
            self.answers[kind, each.status] += 1
            self.unchanged[kind] += each.unchanged
            if each.waited is not None:
                self.waited[kind].add(each.waited)

    @property
    def jobs(self) -> int:
        """The number of completed jobs."""
        return sum(
            count for (_, status), count in dict(self.answers).items() if status == "completed"
        )
