"""The handler of changes of a user's solves that are published without the solve."""

from collections.abc import Iterable, Sequence

from statsd.events import ActivityUpdate
from statsd.handlers.effects import EFFECTS
from statsd.handlers.registry import Lookup, handles
from statsd.jobs.pending import PendingJob, now_and_again

[_USER] = EFFECTS[ActivityUpdate]


@handles(ActivityUpdate)
async def activity_changed(
    events: Sequence[ActivityUpdate], _lookup: Lookup
) -> Iterable[PendingJob]:
    """Enqueue the statistics of the users."""
    return now_and_again({job for event in events for job in _USER.jobs(user_id=event.user_id)})
