"""The handler of changed scores."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from statsd.calculators.counted import open_to_all
from statsd.events import ScoresUpdate
from statsd.handlers.effects import EFFECTS
from statsd.handlers.registry import Lookup, handles
from statsd.jobs.pending import PendingJob, now_and_again
from statsd.schema import dojos

[_DOJO] = EFFECTS[ScoresUpdate]


@handles(ScoresUpdate)
async def scores_changed(events: Sequence[ScoresUpdate], lookup: Lookup) -> Iterable[PendingJob]:
    """Enqueue the scores of the dojos or, for an event without a dojo, of all that have scores."""
    named = {event.dojo_id for event in events}
    dojo_ids = {dojo_id for dojo_id in named if dojo_id is not None}
    if None in named:
        dojo_ids |= {each.dojo_id for each in await lookup.rows(_OPEN_TO_ALL, {})}
    return now_and_again(job for dojo_id in dojo_ids for job in _DOJO.jobs(dojo_id=dojo_id))


_OPEN_TO_ALL = sa.select(dojos.c.dojo_id).where(open_to_all())
