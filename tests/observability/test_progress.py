"""Whether a cold start is under way, for which other work makes room."""

from statsd.job import Priority
from statsd.jobs.load_shedder import Gate
from statsd.jobs.pending import Mark
from statsd.jobs.queue import Answer, Choice, Marks
from statsd.observability.progress import STALLED, Progress
from tests.support.plain_jobs import KEY, Thing


async def test_what_no_longer_goes_on_is_no_cold_start(marks: Marks) -> None:
    """It may be put off again and again, or be of a kind that only a newer version knows."""
    now, gate = 0.0, Gate()
    progress = Progress(marks, gate, lambda: now)

    async def is_filling(after: float) -> bool:
        nonlocal now
        now += after
        await progress.step()
        return gate.is_filling

    assert not await is_filling(0)
    await marks.mark([Mark(Thing(number), priority=Priority.BACKGROUND) for number in range(3)])
    assert [await is_filling(after) for after in (0, STALLED - 1)] == [True, True]
    attempt = (await marks.take(Choice({"thing": 1}))).attempt
    assert attempt
    assert attempt.names[0].startswith("thing")
    await marks.settle(attempt, {attempt.names[0]: Answer({KEY: 1})})
    assert [await is_filling(after) for after in (0, STALLED - 1, 1)] == [True, True, False]
