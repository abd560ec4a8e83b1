"""Reconciling: enqueue every statistic. From an empty cache, that is the cold start.

Reconciling is itself a job. It is enqueued when a daemon starts, when the consumer group had to
be created, and whenever the clock in Redis is made anew (first start, flush, eviction). So one
daemon does it, and a crash half-way brings it back.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from statsd.boards.exports_switch import ExportsSwitch
from statsd.calculators.catalog import COLD_START, is_statistic
from statsd.job import AFTER_LOSS, Job, Priority, known, register_kind
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import Queue
from statsd.servers.database import Database
from statsd.servers.docker import Containers


class Reconcile(Job, frozen=True):
    """Enqueue every statistic that exists in the database or in the cache."""

    kind: ClassVar[str] = AFTER_LOSS


register_kind(Reconcile)


async def existing_statistics(database: Database) -> list[Job]:
    """List every statistic that exists in the database, the busiest dojos first."""
    async with database.snapshot() as snapshot:
        return [
            calculator.job.of(*row)
            for calculator in COLD_START
            for row in await snapshot.rows(calculator.every)
        ]


def _has_values(job: Job) -> bool:
    return is_statistic(job) or isinstance(job, Containers)


class Reconciler:
    """Executes `Reconcile`: enqueues jobs in the background class, the busiest dojos first.

    There may be very many jobs, one for each user alone, so they are enqueued in parts: Redis does
    nothing else while a script runs. An interrupted reconcile stays pending, and begins again.
    """

    def __init__(
        self,
        queue: Queue,
        database: Database,
        *,
        only_present: bool,
        switch: ExportsSwitch | None = None,
    ) -> None:
        """With `only_present`, absent values stay absent (SKIP_COLD_START).

        `switch` is published again where Redis has lost it.
        """
        self._queue = queue
        self._switch = switch
        self._database = database
        self._only_present = only_present

    async def execute(
        self, wanted: Sequence[Reconcile], _attempt: Attempt
    ) -> Mapping[Reconcile, Answer]:
        """Enqueue the statistics that exist, and those that have keys and may be deleted.

        Until a dojo's state is built anew, it is doubtful: Redis may have older data again.
        """
        await self._queue.doubt_all()
        if self._switch:
            await self._switch.publish(only_if_absent=True)
        existing: list[Job] = []
        if not self._only_present:
            existing = [*await existing_statistics(self._database), Containers()]
        names = await self._queue.jobs_with_keys()
        jobs = dict.fromkeys([*existing, *filter(_has_values, known(names))])
        pending = [PendingJob(job, priority=Priority.BACKGROUND) for job in jobs]
        await self._queue.enqueue(pending)
        return dict.fromkeys(wanted, Answer({}))
