"""How much large work goes on at a time: all there is in quiet times, one batch under pressure.

A pass over dojos takes a core of the database for seconds. While many solves come, the others are
for them: so only one worker takes what is large then, and exports come later, not solves.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

BUSY = 100.0  # refreshes for events within about a second


class Gate:
    """Shared by the workers of one daemon."""

    def __init__(self) -> None:
        self._inside = 0
        self._pressure = 0.0
        self._at = monotonic()

    def press(self, refreshes: int) -> None:
        """Note that so many refreshes, small ones, were answered for events."""
        self._pressure = self._left() + refreshes
        self._at = monotonic()

    def _left(self) -> float:
        """Return how much of the pressure is left; it fades within seconds."""
        return self._pressure * math.exp(self._at - monotonic())

    @contextmanager
    def passing(self) -> "Iterator[Pass]":
        """Give a pass, which is valid if large work may begin now; in the end it is given back."""
        own = Pass(self)
        try:
            yield own
        finally:
            own.give_back()

    def enter(self) -> bool:
        """Let one more in, if there is room."""
        if self._inside and self._left() > BUSY:
            return False
        self._inside += 1
        return True

    def leave(self) -> None:
        """Make room again."""
        self._inside -= 1


class Pass:
    """The right to do large work."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.is_valid = gate.enter()

    def give_back(self) -> None:
        """Let others have it, if it is still valid."""
        if self.is_valid:
            self.is_valid = False
            self._gate.leave()
