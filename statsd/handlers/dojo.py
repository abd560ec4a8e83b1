"""The handler of changed dojos."""

from collections.abc import Iterable, Sequence

from statsd.events import DojoStatsUpdate
from statsd.handlers.effects import EFFECTS
from statsd.handlers.registry import Lookup, handles
from statsd.jobs.pending import PendingJob, now_and_again

[_DOJO] = EFFECTS[DojoStatsUpdate]


@handles(DojoStatsUpdate)
async def dojo_changed(events: Sequence[DojoStatsUpdate], _lookup: Lookup) -> Iterable[PendingJob]:
    """Enqueue the statistics of the dojos. For a deleted dojo that deletes their keys."""
    jobs = {job for event in events for job in _DOJO.jobs(dojo_id=event.dojo_id)}
    return [each for job in jobs for each in now_and_again([job], _DOJO.class_of(job))]
