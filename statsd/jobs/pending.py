"""The results of handlers: jobs to enqueue, and solves to acknowledge."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from statsd.job import Job, Priority
from statsd.jobs.provenance import Provenance

RECHECK_DELAY = 2.0  # seconds: an event may be published a moment before its commit
STEP = 250  # jobs enqueued by one call of a script, which then takes Redis about 10 ms

T = TypeVar("T")


class PendingJob(NamedTuple):
    """A job to enqueue: now, or after a delay, even if the same job is completed before."""

    job: Job
    delay: float = 0.0
    """Seconds."""
    priority: Priority | None = None
    """None: the job's own class."""
    changed: int | None = None
    """A challenge, if nothing but its solves has changed; without a delay."""

    def packed(self, provenance: Provenance | None = None) -> dict[str, Any]:
        """Return the job in the scripts' format, with the events that it is enqueued for."""
        priority = self.job.priority if self.priority is None else self.priority
        found = {
            "name": self.job.name,
            "class": int(priority),
            "delay": int(self.delay * 1_000_000),
        }
        if self.changed is not None:
            found["changed"] = self.changed
        return found | {"provenance": provenance._asdict()} if provenance else found


class AcknowledgedSolve(NamedTuple):
    """A solve whose jobs are enqueued in the same step, after it was in the database.

    The search for missed solves skips it.
    """

    submission_id: int


Consequence = PendingJob | AcknowledgedSolve
"""A write to the queue, in the step that acknowledges events or completes jobs."""


def in_steps(items: Iterable[T], size: int = STEP) -> Iterator[tuple[list[T], bool]]:
    """Yield what each call of a script is given, and whether it is the last; there is at least one.

    The items of one further step are read ahead, and no more.
    """
    rest = iter(items)
    step = list(islice(rest, size))
    while following := list(islice(rest, size)):
        yield step, False
        step = following
    yield step, True


def now_and_again(jobs: Iterable[Job], priority: Priority | None = None) -> Iterator[PendingJob]:
    """Enqueue each job now, and again when a commit that was under way has ended.

    `priority` replaces the jobs' own class.
    """
    for job in jobs:
        yield PendingJob(job, priority=priority)
        yield PendingJob(job, RECHECK_DELAY, priority)
