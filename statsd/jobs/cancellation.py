"""The end of tasks."""

import asyncio
from collections.abc import Collection
from typing import Any

AGAIN = 1.0  # seconds


async def ended(tasks: Collection["asyncio.Task[Any]"], again: float = AGAIN) -> None:
    """Cancel tasks until they have ended, every `again` seconds.

    Once is not enough: `asyncio.wait_for` of Python 3.11, which clients of servers use, loses a
    cancellation that comes as the reply does, and its task goes on.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=again)
