"""Load shedding: while many solves arrive, large jobs are postponed.

A pass over dojos occupies a core of the database for seconds. Under load the solves need that
core: large jobs wait for up to a minute, and then run one batch at a time. Therefore exports are
delayed under load, and solves are not.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

BUSY = 100.0  # jobs completed for events, within about a second
CALM = BUSY / 2  # jobs; the load has to fall below it before a new wait begins
LONGEST_WAIT = 60.0  # seconds under load after which large jobs run nevertheless
DEBOUNCE = 0.25  # seconds that large jobs wait: for urgent ones, and for more of their kind


class LoadShedder:
    """Decides when large jobs may run; the workers of one daemon share it."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """`clock` returns seconds."""
        self._clock = clock
        self._running = 0
        self.is_filling = False
        """Whether a cold start or a rebuild is under way; no job is postponed then."""
        self._began = -math.inf
        self._load = 0.0
        self._load_at = self._clock()

    @property
    def debounce(self) -> float:
        """The seconds that large jobs wait beyond their due time.

        A dojo that changes during a cold start waits for the end of the cold start, or for a
        minute: otherwise there would be twice as many passes.
        """
        return LONGEST_WAIT if self.is_filling else DEBOUNCE

    @property
    def is_under_load(self) -> bool:
        """Whether many jobs are completed for events just now."""
        return self._current_load() > BUSY

    def add_load(self, jobs: int) -> None:
        """Count small jobs that were completed for events."""
        if self._current_load() < CALM:
            self._began = self._clock()
        self._load = self._current_load() + jobs
        self._load_at = self._clock()

    def _current_load(self) -> float:
        """Return the load, which decays within seconds."""
        return self._load * math.exp(self._load_at - self._clock())

    @property
    def _is_waiting(self) -> bool:
        """Whether no large job may run yet."""
        return self._clock() - self._began < LONGEST_WAIT

    @contextmanager
    def permit(self, *, wanted: bool = True) -> Iterator["Permit"]:
        """Give a permit, which is valid if a large job may begin now, and end it with the context.

        `wanted` is false for a worker without large jobs; its permit is never valid.
        """
        own = Permit(self, wanted=wanted)
        try:
            yield own
        finally:
            own.release()

    def enter(self) -> bool:
        """Start one more large job, if that is allowed."""
        if self.is_under_load and not self.is_filling and (self._running or self._is_waiting):
            return False
        self._running += 1
        return True

    def leave(self) -> None:
        """End a large job."""
        self._running -= 1


class Permit:
    """The right to run large jobs."""

    def __init__(self, load_shedder: LoadShedder, *, wanted: bool) -> None:
        self._load_shedder = load_shedder
        self.is_valid = wanted and load_shedder.enter()

    def release(self) -> None:
        """Return the permit for other workers, if it is still valid."""
        if self.is_valid:
            self.is_valid = False
            self._load_shedder.leave()
