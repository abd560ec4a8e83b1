"""What a change of standings makes stale."""

from collections.abc import Iterable, Sequence

from statsd.calculators.challenge_solves import ChallengeSolves
from statsd.calculators.scoreboard import Scoreboard
from statsd.events import ModuleId, ScoreboardUpdate
from statsd.handlers.registry import Lookup, handles
from statsd.job import Job
from statsd.jobs.pending import PendingJob, now_and_again


@handles(ScoreboardUpdate)
async def scoreboard_changed(
    events: Sequence[ScoreboardUpdate], _lookup: Lookup
) -> Iterable[PendingJob]:
    """Mark the dojo's scoreboards, a module's among them; for a module, its challenge solves too.

    One pass gives all of a dojo, so a dojo and each of its modules, as they are published after
    a change, are one refresh.
    """
    stale: set[Job] = set()
    for event in events:
        if isinstance(event.model_id, ModuleId):
            dojo_id = event.model_id.dojo_id
            stale.add(ChallengeSolves(dojo_id))
        else:
            dojo_id = event.model_id
        stale.add(Scoreboard(dojo_id))
    return now_and_again(stale)
