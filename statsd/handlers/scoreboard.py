"""The handler of changed scoreboards."""

from collections.abc import Iterable, Sequence

from statsd.events import ModuleId, ScoreboardUpdate
from statsd.handlers.effects import EFFECTS
from statsd.handlers.registry import Lookup, handles
from statsd.job import Job
from statsd.jobs.pending import PendingJob, now_and_again

_DOJO, _MODULE = EFFECTS[ScoreboardUpdate]


@handles(ScoreboardUpdate)
async def scoreboard_changed(
    events: Sequence[ScoreboardUpdate], _lookup: Lookup
) -> Iterable[PendingJob]:
    """Enqueue the scoreboards of the dojos; for a module, also the solves of its challenges.

    One job has all scoreboards of a dojo. So the events of a dojo and of its modules, which are
    published together after a change, are one job.
    """
    jobs: set[Job] = set()
    for event in events:
        if isinstance(event.model_id, ModuleId):
            dojo_id = event.model_id.dojo_id
            jobs.update(_MODULE.jobs(dojo_id=dojo_id))
        else:
            dojo_id = event.model_id
        jobs.update(_DOJO.jobs(dojo_id=dojo_id))
    return now_and_again(jobs)
