"""Histograms of durations. Each bucket is about an eighth larger than the one before."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

_SERIES = (
    1,
    1.12,
    1.25,
    1.4,
    1.6,
    1.8,
    2,
    2.24,
    2.5,
    2.8,
    3.15,
    3.55,
    4,
    4.5,
    5,
    5.6,
    6.3,
    7.1,
    8,
    9,
)
"""The preferred numbers R20 of ISO 3: 1, 2.5 and 5 are among them."""
_FIRST_DECADE = -4  # the first bucket ends at 10**-4 seconds
_DECADES = 7  # up to a thousand seconds

BOUNDS = tuple(
    float(f"{step}e{_FIRST_DECADE + decade}") for decade in range(_DECADES) for step in _SERIES
)
"""The upper bounds of the buckets, in seconds. One more bucket counts longer durations."""


class Histogram:
    """A histogram. Quantiles are upper bounds of buckets, so at most an eighth too large."""

    def __init__(
        self, counts: Iterable[int] = (0,) * (len(BOUNDS) + 1), total: float = 0.0
    ) -> None:
        self.counts = list(counts)
        self.total = total
        """The sum of all, in seconds."""

    def add(self, seconds: float, times: int = 1) -> None:
        """Count one duration, or several equal ones."""
        self.counts[bisect_left(BOUNDS, seconds)] += times
        self.total += seconds * times

    @property
    def count(self) -> int:
        """The number of durations."""
        return sum(self.counts)

    def copy(self) -> "Histogram":
        """Return a copy."""
        return Histogram(self.counts, self.total)

    def since(self, before: "Histogram | None") -> "Histogram":
        """Return the durations added after a copy was made; None: all."""
        if before is None:
            return self.copy()
        left = (now - then for now, then in zip(self.counts, before.counts, strict=True))
        return Histogram(left, self.total - before.total)

    def quantiles(self, *parts: float) -> list[float]:
        """Return quantiles in seconds, for parts such as 0.95; 0 in an empty histogram."""
        up_to = list(accumulate(self.counts))
        return [_bound(up_to, part) if up_to[-1] else 0.0 for part in parts]

    def buckets(self, bounds: Sequence[float]) -> list[int]:
        """Return how many durations are at most each of some BOUNDS."""
        up_to = list(accumulate(self.counts))
        return [up_to[BOUNDS.index(bound)] for bound in bounds]


def _bound(up_to: Sequence[int], part: float) -> float:
    index = bisect_left(up_to, part * up_to[-1])
    return BOUNDS[min(index, len(BOUNDS) - 1)]
