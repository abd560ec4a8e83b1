"""The load shedder learns whether a cold start is under way."""

from statsd.job import Priority
from statsd.jobs.attempt import Answer
from statsd.jobs.load_shedder import LoadShedder
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import LeaseRequest, Queue
from statsd.observability.progress import STALLED, FillProgress
from tests.support.plain_jobs import KEY, Thing


async def test_background_jobs_without_progress_are_no_cold_start(queue: Queue) -> None:
    """Load shedding may defer them for long, or only a newer version has their kind."""
    now, load_shedder = 0.0, LoadShedder()
    progress = FillProgress(queue, load_shedder, lambda: now)

    async def is_filling(after: float) -> bool:
        nonlocal now
        now += after
        await progress.step()
        return load_shedder.is_filling

    assert not await is_filling(0)
    await queue.enqueue(
        [PendingJob(Thing(number), priority=Priority.BACKGROUND) for number in range(3)]
    )
    assert [await is_filling(after) for after in (0, STALLED - 1)] == [True, True]
    attempt = (await queue.lease(LeaseRequest({"thing": 1}))).attempt
    assert attempt
    assert attempt.names[0].startswith("thing")
    await queue.complete(attempt, {attempt.names[0]: Answer({KEY: 1})})
    assert [await is_filling(after) for after in (0, STALLED - 1, 1)] == [True, True, False]
