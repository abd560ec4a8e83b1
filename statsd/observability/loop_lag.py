"""The event loop's pulse: by how much it is late, and whether it turns at all."""

import asyncio
from time import monotonic

INTERVAL = 0.1  # seconds


class LoopLag:
    """Comes round ten times a second, if the loop lets it."""

    def __init__(self) -> None:
        self._worst = 0.0
        self.lately = 0.0
        """The worst of the time before `worst` was last asked, in seconds."""
        self._came = monotonic()

    @property
    def silent(self) -> float:
        """How long ago the loop last came round, in seconds; other threads may ask."""
        return monotonic() - self._came

    def worst(self) -> float:
        """Return by how many seconds it was late at the most since this was last asked."""
        self.lately, self._worst = self._worst, 0.0
        return self.lately

    async def step(self) -> None:
        """Sleep, and see how much later it is."""
        began = monotonic()
        await asyncio.sleep(INTERVAL)
        self._came = monotonic()
        self._worst = max(self._worst, self._came - began - INTERVAL)

    async def recover(self) -> None:
        """Nothing is to be put right."""
