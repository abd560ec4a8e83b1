"""What handlers return: jobs to enqueue, and solves to acknowledge."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from statsd.job import Job, Priority
from statsd.jobs.provenance import Provenance

RECHECK_DELAY = 2.0  # seconds: an event may be published a moment before its commit


class PendingJob(NamedTuple):
    """A refresh that is owed: now, or again after `delay` seconds, whatever runs until then."""

    job: Job
    delay: float = 0.0
    priority: Priority | None = None

    def packed(self, provenance: Provenance | None = None) -> tuple[str | int, ...]:
        """Return what the scripts take: name, class, delay in microseconds, and the cause."""
        priority = self.job.priority if self.priority is None else self.priority
        return self.job.name, int(priority), int(self.delay * 1_000_000), *(provenance or ())


class AcknowledgedSolve(NamedTuple):
    """A solve that the marks beside it answer for: it was in the database before they were set.

    By this the watch over the database knows whose event came.
    """

    submission_id: int


Consequence = PendingJob | AcknowledgedSolve
"""What is put down in the step that acknowledges events or answers marks."""


def now_and_again(jobs: Iterable[Job], priority: Priority | None = None) -> Iterator[PendingJob]:
    """Mark each refresh now, and once more when a commit that was under way has landed.

    With a priority, in that class and not in its own.
    """
    for job in jobs:
        yield PendingJob(job, priority=priority)
        yield PendingJob(job, RECHECK_DELAY, priority)
