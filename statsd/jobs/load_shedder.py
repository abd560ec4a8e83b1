"""Load shedding: while many solves arrive, large jobs have a bounded share of the time.

Exports and whole passes occupy a core for up to seconds. Under load the small jobs of solves need
that core: then large jobs run one batch at a time, with rests in between. Without load, no large
job waits.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

BUSY = 100.0  # jobs completed for events, within about a second
DEBOUNCE = 0.03  # seconds that large jobs wait: for urgent ones, and for more of their kind
SHARE = 0.75  # of one core


class LoadShedder:
    """Decides when large jobs may run; the workers of one daemon share it."""

    def __init__(self, share: float = SHARE, clock: Callable[[], float] = monotonic) -> None:
        """`share` is the part of the time that large jobs may take under load.

        `clock` returns seconds.
        """
        self._share = share
        self._clock = clock
        self._running = 0
        self._rests_until = -math.inf
        self.is_filling = False
        """Whether a cold start or a rebuild is under way; no job is postponed then."""
        self._load = 0.0
        self._load_at = self._clock()

    @property
    def is_under_load(self) -> bool:
        """Whether many jobs are completed for events just now."""
        return self._current_load() > BUSY

    def add_load(self, jobs: int) -> None:
        """Count small jobs that were completed for events."""
        self._load = self._current_load() + jobs
        self._load_at = self._clock()

    def _current_load(self) -> float:
        """Return the load, which decays within seconds."""
        return self._load * math.exp(self._load_at - self._clock())

    @contextmanager
    def permit(self, *, wanted: bool = True) -> Iterator["Permit"]:
        """Give a permit, which is valid if a large job may begin now, and end it with the context.

        `wanted` is false for a worker without large jobs; its permit is never valid.
        """
        own = Permit(self, wanted=wanted)
        try:
            yield own
        finally:
            own.release(used=True)

    def enter(self) -> float | None:
        """Start one more large job, if that is allowed; return the moment, or None."""
        now = self._clock()
        is_bounded = self.is_under_load and not self.is_filling
        if is_bounded and (self._running or now < self._rests_until):
            return None
        self._running += 1
        return now

    def leave(self, began: float, *, used: bool) -> None:
        """End a large job that began at a moment; with `used`, large jobs rest after it."""
        self._running -= 1
        if used:
            now = self._clock()
            self._rests_until = now + (now - began) * (1 / self._share - 1)


class Permit:
    """The right to run large jobs."""

    def __init__(self, load_shedder: LoadShedder, *, wanted: bool) -> None:
        self._load_shedder = load_shedder
        self._began = load_shedder.enter() if wanted else None

    @property
    def is_valid(self) -> bool:
        """Whether a large job may run."""
        return self._began is not None

    def release(self, *, used: bool) -> None:
        """Return the permit for other workers, if it is still valid.

        `used` says whether a large job ran.
        """
        if self._began is not None:
            self._load_shedder.leave(self._began, used=used)
            self._began = None
