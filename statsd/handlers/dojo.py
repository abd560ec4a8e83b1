"""What a change of a dojo makes stale."""

from collections.abc import Iterable, Sequence

from statsd.calculators.dojo_stats import DojoStats
from statsd.events import DojoStatsUpdate
from statsd.refresh import Mark, now_and_again
from statsd.registry import Lookup, handles


@handles(DojoStatsUpdate)
async def dojo_changed(events: Sequence[DojoStatsUpdate], _lookup: Lookup) -> Iterable[Mark]:
    """Mark the dojo's statistics; for a dojo that is gone, that removes its keys."""
    return now_and_again(DojoStats(dojo_id) for dojo_id in {event.dojo_id for event in events})
