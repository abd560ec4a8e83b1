"""Reconciling: mark everything. From an empty cache, that is the cold start.

It is itself a refresh, owed whenever the clock in Redis is made anew (first start, flush,
eviction), when a daemon starts, and when the consumer group had to be made: so one daemon does
it, and a crash half-way brings it back.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from statsd.calculators.catalog import is_statistic
from statsd.calculators.crews import Crews
from statsd.calculators.dojo_stats import DojoStats
from statsd.consistency.existing import every_statistic
from statsd.job import Job, Priority, known, register_kind
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import Answer, Attempt, Queue
from statsd.servers.database import Database
from statsd.servers.docker import Containers

PART = 1000  # marks that are set at once
FOLLOWING = (DojoStats, Crews)
"""What boards owe, and answer, once they are in place."""


class Reconcile(Job, frozen=True):
    """Mark all that exists in the database, and all that is in the cache."""

    kind: ClassVar[str] = "reconcile"


register_kind(Reconcile)


def _is_value(job: Job) -> bool:
    return is_statistic(job) or isinstance(job, Containers)


class Reconciler:
    """Answers `Reconcile` with marks in the background class, the busiest dojos first.

    What follows from boards is marked before them, since boards that are older than such a mark do
    not answer it; and in the idle class, where it waits for them. What they do not owe comes last.

    There may be very many, one for each user alone, so they are set in parts beforehand: Redis does
    nothing else while a script sets some. What is interrupted is still owed, and begins again.
    """

    def __init__(
        self,
        queue: Queue,
        database: Database,
        *,
        only_present: bool,
    ) -> None:
        """With `only_present`, what is not in the cache stays so (SKIP_COLD_START)."""
        self._queue = queue
        self._database = database
        self._only_present = only_present

    async def execute(
        self, wanted: Sequence[Reconcile], _attempt: Attempt
    ) -> Mapping[Reconcile, Answer]:
        """List what exists in the snapshot, then what has keys and may be gone."""
        pending: list[Job] = []
        if not self._only_present:
            pending = [*await every_statistic(self._database), Containers()]
        held = (each for each in known(await self._queue.jobs_with_keys()) if _is_value(each))
        every = dict.fromkeys([*pending, *held])
        following = [each for each in every if isinstance(each, FOLLOWING)]
        others = [each for each in every if not isinstance(each, FOLLOWING)]
        queue = [PendingJob(each, priority=Priority.IDLE) for each in following]
        queue += [PendingJob(each, priority=Priority.BACKGROUND) for each in others]
        for first in range(0, len(queue), PART):
            await self._queue.enqueue(queue[first : first + PART])
        return dict.fromkeys(wanted, Answer({}))
