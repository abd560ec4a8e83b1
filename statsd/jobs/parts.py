"""Answers in parts: each part is completed before the next one is computed.

Therefore only one part of a batch of large values is in memory, and the first values are cached
early.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from statsd.jobs.attempt import Answer, Attempt

Parts = AsyncGenerator[Mapping[Any, Answer], None]
"""Yields answers by job, some at a time. A job without an answer refers to a deleted thing."""

Execute = Callable[[Sequence[Any], Attempt], Parts]
"""Answers jobs of one kind, from data read after the attempt's token."""


def at_once(answer: Callable[[Sequence[Any], Attempt], Awaitable[Mapping[Any, Answer]]]) -> Execute:
    """Return a function that yields all answers of another function as one part."""

    async def execute(wanted: Sequence[Any], attempt: Attempt) -> Parts:
        yield await answer(wanted, attempt)

    return execute


class TimeSpent:
    """Measures the seconds that each job of a batch takes, when answers come in parts.

    The time until the first part is shared by all jobs.
    """

    def __init__(self, jobs: int, clock: Callable[[], float] = monotonic) -> None:
        """`jobs` is their number; `clock` returns seconds."""
        self._jobs = jobs
        self._clock = clock
        self._shared: float | None = None
        self._began = clock()

    def on(self, answers: int) -> float:
        """Return the seconds that each of `answers` jobs took, which are answered now."""
        seconds = self._clock() - self._began
        if self._shared is None:
            self._shared = seconds / self._jobs
            return self._shared
        return self._shared + seconds / answers

    def go_on(self) -> None:
        """Begin the next part."""
        self._began = self._clock()
