"""What a change of a dojo makes stale."""

from collections.abc import Iterable, Sequence

from statsd.events import DojoStatsUpdate
from statsd.refresh import Mark, now_and_again
from statsd.registry import Lookup, handles
from statsd.statistics import of_dojo


@handles(DojoStatsUpdate)
async def dojo_changed(events: Sequence[DojoStatsUpdate], _lookup: Lookup) -> Iterable[Mark]:
    """Mark all statistics of the dojo; for a dojo that is gone, that removes its keys."""
    dojo_ids = {event.dojo_id for event in events}
    return now_and_again(refresh for dojo_id in dojo_ids for refresh in of_dojo(dojo_id))
