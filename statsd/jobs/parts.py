"""Answers that come in parts, each settled before the next is asked for.

So of a batch of large values no more than a part is held in memory, and what is ready first is
cached first.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from statsd.jobs.queue import Answer, Attempt

Parts = AsyncGenerator[Mapping[Any, Answer], None]
"""Answers, some at a time. What has none in the end stands for something that is gone."""

Execute = Callable[[Sequence[Any], Attempt], Parts]
"""Answers refreshes of one kind from what was true after the attempt's token."""


def at_once(answer: Callable[[Sequence[Any], Attempt], Awaitable[Mapping[Any, Answer]]]) -> Execute:
    """Give the answers of a function that has all of them together as the only part."""

    async def execute(wanted: Sequence[Any], attempt: Attempt) -> Parts:
        yield await answer(wanted, attempt)

    return execute


class Spent:
    """The seconds that each of some refreshes took, which are answered in parts.

    What it takes until there is a first part is shared by all.
    """

    def __init__(self, jobs: int, clock: Callable[[], float] = monotonic) -> None:
        """Take how many they are, and what tells the time, in seconds."""
        self._jobs = jobs
        self._clock = clock
        self._shared: float | None = None
        self._began = clock()

    def on(self, answers: int) -> float:
        """Return what each of so many took, which are answered now."""
        seconds = self._clock() - self._began
        if self._shared is None:
            self._shared = seconds / self._jobs
            return self._shared
        return self._shared + seconds / answers

    def go_on(self) -> None:
        """Let the work on the next part begin now."""
        self._began = self._clock()
