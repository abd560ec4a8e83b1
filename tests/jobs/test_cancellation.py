"""Tasks end, also those that lose a cancellation."""

import asyncio

from statsd.jobs.cancellation import ended


class Deaf:
    """Goes on after so many cancellations."""

    def __init__(self, loses: int) -> None:
        self.left = loses

    async def work(self) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if not self.left:
                    raise
                self.left -= 1


async def test_a_task_that_loses_cancellations_is_cancelled_again() -> None:
    deaf = [Deaf(loses) for loses in (0, 1, 3)]
    tasks = [asyncio.create_task(each.work()) for each in deaf]
    await asyncio.sleep(0)  # they begin
    async with asyncio.timeout(10):
        await ended(tasks, again=0.001)
    assert all(task.cancelled() for task in tasks)
    assert [each.left for each in deaf] == [0, 0, 0]


async def test_tasks_that_have_ended_are_left_alone() -> None:
    async def fail() -> None:
        raise ValueError

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    async with asyncio.timeout(10):
        await ended([task])
        await ended([])
    assert isinstance(task.exception(), ValueError)
