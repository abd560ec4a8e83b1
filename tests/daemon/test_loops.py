"""Tasks end when they are cancelled, even those that lose a cancellation."""

import asyncio

from statsd.loops import cancel
from tests.support.processes import DEADLINE


class Deaf:
    """Ignores some cancellations."""

    def __init__(self, ignores: int) -> None:
        self.left = ignores

    async def work(self) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if not self.left:
                    raise
                self.left -= 1


async def test_a_task_that_loses_cancellations_is_cancelled_again() -> None:
    deaf = [Deaf(ignores) for ignores in (0, 1, 3)]
    tasks = [asyncio.create_task(each.work()) for each in deaf]
    await asyncio.sleep(0)  # they begin
    async with asyncio.timeout(DEADLINE):
        await cancel(tasks, interval=0.001)
    assert all(task.cancelled() for task in tasks)
    assert [each.left for each in deaf] == [0, 0, 0]


async def test_tasks_that_have_ended_are_left_alone() -> None:
    async def fail() -> None:
        raise ValueError

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    async with asyncio.timeout(DEADLINE):
        await cancel([task])
        await cancel([])
    assert isinstance(task.exception(), ValueError)
