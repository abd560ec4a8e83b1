"""Cancelled tasks end, even if they ignore the first cancellations."""

import asyncio

from statsd.loops import cancel
from tests.support.processes import DEADLINE


class CancellationIgnorer:
    """A coroutine that ignores its first cancellations."""

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


async def test_a_task_that_ignores_cancellations_is_cancelled_again() -> None:
    ignorers = [CancellationIgnorer(ignores) for ignores in (0, 1, 3)]
    tasks = [asyncio.create_task(each.work()) for each in ignorers]
    await asyncio.sleep(0)  # the tasks begin
    async with asyncio.timeout(DEADLINE):
        await cancel(tasks, interval=0.001)
    assert all(task.cancelled() for task in tasks)
    assert [each.left for each in ignorers] == [0, 0, 0]


async def test_ended_tasks_are_left_alone() -> None:
    async def fail() -> None:
        raise ValueError

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    async with asyncio.timeout(DEADLINE):
        await cancel([task])
        await cancel([])
    assert isinstance(task.exception(), ValueError)
