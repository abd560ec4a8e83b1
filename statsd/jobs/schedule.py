"""Refreshes that are owed again and again."""

import asyncio

from statsd.job import Refresh
from statsd.jobs.queue import Marks
from statsd.jobs.wakeup import Ring


class Timer:
    """Owes one refresh at intervals; once for all daemons whose timers are the same."""

    def __init__(self, marks: Marks, bell: Ring, refresh: Refresh, interval: float) -> None:
        """`interval` is in seconds; `bell` is rung when the refresh is owed."""
        self._marks = marks
        self._bell = bell
        self._refresh = refresh
        self._interval = interval

    async def step(self) -> None:
        """Rest; then owe it, unless another daemon has done so lately."""
        await asyncio.sleep(self._interval)
        if await self._marks.ask(self._refresh, self._interval):
            self._bell.ring()

    async def recover(self) -> None:
        """Nothing is to be put right."""
