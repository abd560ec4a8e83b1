"""Wake-ups: a signal wakes one sleeping worker."""

import asyncio
from typing import Protocol


class Wakes(Protocol):
    """Anything that wakes workers."""

    def wake(self) -> "WakeUp":
        """Wake one worker; return the wake-up that was used."""

    def repeat(self, woken: "WakeUp") -> None:
        """Wake once more: the worker woken through `woken` may have looked too soon."""


class WakeUp:
    """Each signal wakes one sleeper. Signals while no worker sleeps count as one, and are kept."""

    def __init__(self) -> None:
        self._signals: asyncio.Queue[None] = asyncio.Queue(maxsize=1)
        self._sleepers = 0

    @property
    def has_sleeper(self) -> bool:
        """Whether a signal would wake a worker now."""
        return self._sleepers > 0 and self._signals.empty()

    def wake(self) -> "WakeUp":
        """Wake one sleeper, or the next worker that is about to sleep."""
        if self._signals.empty():
            self._signals.put_nowait(None)
        return self

    def repeat(self, woken: "WakeUp") -> None:
        """Wake one sleeper again."""
        woken.wake()

    async def sleep(self, seconds: float) -> None:
        """Return at the next signal, or after so many seconds."""
        self._sleepers += 1
        try:
            async with asyncio.timeout(seconds):
                await self._signals.get()
        except TimeoutError:
            return
        finally:
            self._sleepers -= 1


class PreferFirst:
    """Wakes a sleeper of the first wake-up; where none sleeps there, one of the second."""

    def __init__(self, first: WakeUp, second: WakeUp) -> None:
        self._first = first
        self._second = second

    def wake(self) -> WakeUp:
        """Wake one sleeper."""
        return (self._first if self._first.has_sleeper else self._second).wake()

    def repeat(self, woken: WakeUp) -> None:
        """Use the same wake-up again, unless a worker sleeps at the first one by now."""
        (self._first if self._first.has_sleeper else woken).wake()
