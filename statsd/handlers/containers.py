"""What a container that starts or stops makes stale."""

from collections.abc import Iterable, Sequence

from statsd.containers import Containers
from statsd.events import ContainerStatsUpdate
from statsd.refresh import Mark, now_and_again
from statsd.registry import Lookup, handles


@handles(ContainerStatsUpdate)
async def containers_changed(
    _events: Sequence[ContainerStatsUpdate], _lookup: Lookup
) -> Iterable[Mark]:
    """Mark the one value; once more a little later, as the event may come before the container."""
    return now_and_again([Containers()])
