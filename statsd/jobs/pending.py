"""What handlers return: jobs to enqueue, and solves to acknowledge."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from statsd.job import Priority, Refresh
from statsd.jobs.provenance import Cause

RECHECK_DELAY = 2.0  # seconds: an event may be published a moment before its commit


class Mark(NamedTuple):
    """A refresh that is owed: now, or again after `delay` seconds, whatever runs until then."""

    refresh: Refresh
    delay: float = 0.0
    priority: Priority | None = None

    def packed(self, cause: Cause | None = None) -> tuple[str | int, ...]:
        """Return what the scripts take: name, class, delay in microseconds, and the cause."""
        priority = self.refresh.priority if self.priority is None else self.priority
        return self.refresh.name, int(priority), int(self.delay * 1_000_000), *(cause or ())


class Covered(NamedTuple):
    """A solve that the marks beside it answer for: it was in the database before they were set.

    By this the watch over the database knows whose event came.
    """

    submission_id: int


Record = Mark | Covered
"""What is put down in the step that acknowledges events or answers marks."""


def now_and_again(refreshes: Iterable[Refresh], priority: Priority | None = None) -> Iterator[Mark]:
    """Mark each refresh now, and once more when a commit that was under way has landed.

    With a priority, in that class and not in its own.
    """
    for refresh in refreshes:
        yield Mark(refresh, priority=priority)
        yield Mark(refresh, RECHECK_DELAY, priority)
