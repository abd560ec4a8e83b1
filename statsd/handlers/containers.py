"""What a container that starts or stops makes stale."""

from collections.abc import Iterable, Sequence

from statsd.events import ContainerStatsUpdate
from statsd.handlers.registry import Lookup, handles
from statsd.jobs.pending import PendingJob, now_and_again
from statsd.servers.docker import Containers


@handles(ContainerStatsUpdate)
async def containers_changed(
    _events: Sequence[ContainerStatsUpdate], _lookup: Lookup
) -> Iterable[PendingJob]:
    """Mark the one value; once more a little later, as the event may come before the container."""
    return now_and_again([Containers()])
