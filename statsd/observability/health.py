"""Health: the problems of a daemon, and whether it is ready."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from statsd.observability.liveness import Liveness
from statsd.observability.probes import Probes
from statsd.observability.queue_stats import QueueStats


@dataclass
class Health:
    """The state of one daemon and of its servers. Other threads may read it."""

    liveness: Liveness
    probes: Probes
    failing: Callable[[], list[str]]
    """Why the work waits or fails, a sentence each."""
    pool_in_use: Callable[[], int]
    """The number of connections to PostgreSQL in use."""
    pool_size: int
    queue_stats: QueueStats | None = None
    """The newest figures from Redis; None before the first ones."""
    queue_stats_at: float = field(default_factory=monotonic)
    """When they were read (monotonic); before that, when this object was made."""

    def troubles(self) -> list[str]:
        """Return the problems of this daemon and of its servers, a sentence each."""
        found = [*self.liveness.problems(), *self.probes.failures.values(), *self.failing()]
        return list(dict.fromkeys(found))

    def unready(self) -> list[str]:
        """Return why its values are not yet as they should be, a sentence each."""
        is_filled = self.queue_stats is not None and not self.queue_stats.is_filling
        filling = [] if is_filled else ["the cold start, or a rebuild, is not finished"]
        return [*self.troubles(), *filling]
