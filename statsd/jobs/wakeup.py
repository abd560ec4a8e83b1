"""Wake one sleeping worker at a time."""

import asyncio
from typing import Protocol


class Wakes(Protocol):
    """Whatever can be rung."""

    def wake(self) -> "WakeUp":
        """Wake somebody; return the bell that rang."""

    def repeat(self, woken: "WakeUp") -> None:
        """Wake who may have looked too soon after the ring of `woken`."""


class WakeUp:
    """Each ring wakes one sleeper. Rings while nobody sleeps are kept, all as one."""

    def __init__(self) -> None:
        self._wakes: asyncio.Queue[None] = asyncio.Queue(maxsize=1)
        self._sleepers = 0

    @property
    def has_sleeper(self) -> bool:
        """Whether a ring would wake somebody now."""
        return self._sleepers > 0 and self._wakes.empty()

    def wake(self) -> "WakeUp":
        """Wake one sleeper, or the next to lie down."""
        if self._wakes.empty():
            self._wakes.put_nowait(None)
        return self

    def repeat(self, woken: "WakeUp") -> None:
        """Do the same once more; it is no other bell that rang."""
        woken.wake()

    async def sleep(self, seconds: float) -> None:
        """Return at the next ring, or after so many seconds."""
        self._sleepers += 1
        try:
            async with asyncio.timeout(seconds):
                await self._wakes.get()
        except TimeoutError:
            return
        finally:
            self._sleepers -= 1


class FirstOf:
    """Two bells, of which the second is rung where nobody sleeps at the first."""

    def __init__(self, first: WakeUp, second: WakeUp) -> None:
        self._first = first
        self._second = second

    def wake(self) -> WakeUp:
        """Wake one sleeper."""
        return (self._first if self._first.has_sleeper else self._second).wake()

    def repeat(self, woken: WakeUp) -> None:
        """Ring what rang; but who has lain down at the first bell meanwhile comes before others."""
        (self._first if self._first.has_sleeper else woken).wake()
