"""What a change of a user's solves makes stale, beside what a solve does."""

from collections.abc import Iterable, Sequence

from statsd.calculators.activity import Activity
from statsd.events import ActivityUpdate
from statsd.handlers.registry import Lookup, handles
from statsd.jobs.pending import PendingJob, now_and_again


@handles(ActivityUpdate)
async def activity_changed(
    events: Sequence[ActivityUpdate], _lookup: Lookup
) -> Iterable[PendingJob]:
    """Mark the activity of the users."""
    return now_and_again({Activity(event.user_id) for event in events})
