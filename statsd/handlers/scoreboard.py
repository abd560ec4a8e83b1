"""The handler of changed scoreboards."""

from collections.abc import Iterable, Sequence

from statsd.events import ModuleId, ScoreboardUpdate
from statsd.handlers.effects import EFFECTS
from statsd.handlers.registry import Lookup, handles
from statsd.jobs.pending import PendingJob, now_and_again

[_DOJO] = EFFECTS[ScoreboardUpdate]


@handles(ScoreboardUpdate)
async def scoreboard_changed(
    events: Sequence[ScoreboardUpdate], _lookup: Lookup
) -> Iterable[PendingJob]:
    """Enqueue a check of the dojos.

    The events of a dojo and of its modules, which are published together after a change, are one
    job.
    """
    ids = {
        event.model_id.dojo_id if isinstance(event.model_id, ModuleId) else event.model_id
        for event in events
    }
    return now_and_again(job for dojo_id in ids for job in _DOJO.jobs(dojo_id=dojo_id))
