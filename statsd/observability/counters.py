"""What one daemon has done since it started, for its heartbeat and its metrics."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from statsd.jobs.queue import Completion
from statsd.observability.histogram import Histogram


class Counters:
    """Counters that only grow. They are added to by the loop, and read by the HTTP threads."""

    def __init__(self) -> None:
        self.kinds: Sequence[str] = ()
        """Of the refreshes that this daemon answers."""
        self.events: Counter[str] = Counter()
        """Accepted, by type."""
        self.dead_events = 0
        self.batches = 0
        self.enqueued = 0
        """Set for events."""
        self.merged = 0
        """Of those, the ones that were owed already."""
        self.answers: Counter[tuple[str, str]] = Counter()
        """By kind and by what became of them: see `statsd.marks.Settled`."""
        self.unchanged: Counter[str] = Counter()
        """Values that were not written again, by kind."""
        self.slow: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.buried: Counter[str] = Counter()
        self.lost_servers = 0
        self.queued: dict[str, Histogram] = defaultdict(Histogram)
        """How long the oldest of each batch was due, by kind."""
        self.took: dict[str, Histogram] = defaultdict(Histogram)
        """How long each batch was worked on, by kind."""
        self.waited: dict[str, Histogram] = defaultdict(Histogram)
        """From the publishing of an event until the cache had it, by kind."""

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
        """Count a batch of refreshes; durations are in seconds."""
        self.queued[kind].add(queued)
        self.took[kind].add(took)
        for each in completed:
            self.answers[kind, each.status] += 1
            self.unchanged[kind] += each.unchanged
            if each.waited is not None:
                self.waited[kind].add(each.waited)

    @property
    def jobs(self) -> int:
        """How many were answered."""
        return sum(
            count for (_, status), count in dict(self.answers).items() if status == "completed"
        )
