"""Wake one sleeping worker at a time."""

import asyncio
from typing import Protocol


class Ring(Protocol):
    """Whatever can be rung."""

    def ring(self) -> None:
        """Wake somebody."""


class Bell:
    """Each ring wakes one sleeper. Rings while nobody sleeps are kept, all as one."""

    def __init__(self) -> None:
        self._rings: asyncio.Queue[None] = asyncio.Queue(maxsize=1)

    def ring(self) -> None:
        """Wake one sleeper, or the next to lie down."""
        if self._rings.empty():
            self._rings.put_nowait(None)

    async def sleep(self, seconds: float) -> None:
        """Return at the next ring, or after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._rings.get()
        except TimeoutError:
            return


class Bells:
    """Several bells that are rung together."""

    def __init__(self, *bells: Bell) -> None:
        self._bells = bells

    def ring(self) -> None:
        """Wake one sleeper at each."""
        for bell in self._bells:
            bell.ring()
