"""What a change of ranks and counts makes stale."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from statsd.calculators.counted import open_to_all
from statsd.calculators.scores import Scores
from statsd.events import ScoresUpdate
from statsd.handlers.registry import Lookup, handles
from statsd.jobs.pending import PendingJob, now_and_again
from statsd.schema import dojos


@handles(ScoresUpdate)
async def scores_changed(events: Sequence[ScoresUpdate], lookup: Lookup) -> Iterable[PendingJob]:
    """Mark the scores of the dojos named, or, where none is, of all that have any."""
    named = {event.dojo_id for event in events}
    dojo_ids = {dojo_id for dojo_id in named if dojo_id is not None}
    if None in named:
        dojo_ids |= {each.dojo_id for each in await lookup.rows(_OPEN_TO_ALL, {})}
    return now_and_again(Scores(dojo_id) for dojo_id in dojo_ids)


_OPEN_TO_ALL = sa.select(dojos.c.dojo_id).where(open_to_all())
