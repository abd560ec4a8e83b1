"""The handler of containers that start or stop."""

from collections.abc import Iterable, Sequence

from statsd.events import ContainerStatsUpdate
from statsd.handlers.effects import EFFECTS
from statsd.handlers.registry import Lookup, handles
from statsd.jobs.pending import PendingJob, now_and_again

[_SITE] = EFFECTS[ContainerStatsUpdate]


@handles(ContainerStatsUpdate)
async def containers_changed(
    _events: Sequence[ContainerStatsUpdate], _lookup: Lookup
) -> Iterable[PendingJob]:
    """Enqueue the value, and again a little later: the event may come before the container."""
    return now_and_again(_SITE.jobs())
