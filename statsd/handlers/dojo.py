"""What a change of a dojo makes stale."""

from collections.abc import Iterable, Sequence

from statsd.calculators.catalog import of_dojo
from statsd.calculators.emojis import Emojis
from statsd.events import DojoStatsUpdate
from statsd.handlers.registry import Lookup, handles
from statsd.job import Priority
from statsd.jobs.pending import PendingJob, now_and_again


@handles(DojoStatsUpdate)
async def dojo_changed(events: Sequence[DojoStatsUpdate], _lookup: Lookup) -> Iterable[PendingJob]:
    """Mark all statistics of the dojo; for a dojo that is gone, that removes its keys.

    Emojis name the dojos that award them. Most changes of a dojo are none of its award or its name,
    so they are less urgent here.
    """
    dojo_ids = {event.dojo_id for event in events}
    stale = [job for dojo_id in dojo_ids for job in of_dojo(dojo_id)]
    return [*now_and_again(stale), *now_and_again([Emojis()], Priority.ORDINARY)]
