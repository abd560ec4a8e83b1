"""How much large work goes on at a time: all there is in quiet times, less of it under pressure.

A pass over dojos takes a core of the database for seconds. While many solves come, that core is for
them: what is large waits for a minute at the most, and then goes on one batch at a time. So exports
come later then, and solves do not.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

BUSY = 100.0  # refreshes for events within about a second
CALM = BUSY / 2  # refreshes; a dip that is less deep does not let the wait begin anew
HELD = 60.0  # seconds of pressure, after which large work goes on all the same
DEBOUNCE = 0.25  # seconds that large values wait, for what is urgent and for others of the kind


class LoadShedder:
    """Shared by the workers of one daemon."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """Take what tells the time, in seconds."""
        self._clock = clock
        self._inside = 0
        self.is_filling = False
        """Whether a cold start or a rebuild is under way, which nothing should hold up."""
        self._began = -math.inf
        self._pressure = 0.0
        self._pressed_at = self._clock()

    @property
    def debounce(self) -> float:
        """For how many seconds large values wait beyond their due time.

        What has changed again while a cold start goes on waits for its end, or for a minute: its
        passes would be as many again as those of the cold start.
        """
        return HELD if self.is_filling else DEBOUNCE

    @property
    def is_pressed(self) -> bool:
        """Whether much is answered for events just now."""
        return self._left() > BUSY

    def add_load(self, jobs: int) -> None:
        """Note that so many refreshes, small ones, were answered for events."""
        if self._left() < CALM:
            self._began = self._clock()
        self._pressure = self._left() + jobs
        self._pressed_at = self._clock()

    def _left(self) -> float:
        """Return how much of the pressure is left; it fades within seconds."""
        return self._pressure * math.exp(self._pressed_at - self._clock())

    @property
    def _is_held(self) -> bool:
        """Whether what is large has still to wait, all of it."""
        return self._clock() - self._began < HELD

    @contextmanager
    def permit(self, *, wanted: bool = True) -> "Iterator[Permit]":
        """Give a pass, which is valid if large work may begin now; in the end it is given back.

        Who does none does not want a valid one.
        """
        own = Permit(self, wanted=wanted)
        try:
            yield own
        finally:
            own.give_back()

    def enter(self) -> bool:
        """Let one more in, if there is room."""
        if self.is_pressed and not self.is_filling and (self._inside or self._is_held):
            return False
        self._inside += 1
        return True

    def leave(self) -> None:
        """Make room again."""
        self._inside -= 1


class Permit:
    """The right to do large work."""

    def __init__(self, load_shedder: LoadShedder, *, wanted: bool) -> None:
        self._load_shedder = load_shedder
        self.is_valid = wanted and load_shedder.enter()

    def give_back(self) -> None:
        """Let others have it, if it is still valid."""
        if self.is_valid:
            self.is_valid = False
            self._load_shedder.leave()
