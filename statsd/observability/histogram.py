"""How long things took: counted in buckets, which grow by a tenth or so from one to the next."""

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
_TENTHS_OF_A_MILLISECOND = -4  # the power of ten that the first bucket begins at
_DECADES = 7  # up to a thousand seconds

BOUNDS = tuple(
    float(f"{step}e{_TENTHS_OF_A_MILLISECOND + decade}")
    for decade in range(_DECADES)
    for step in _SERIES
)
"""The upper bounds of the buckets, in seconds; what is longer is counted beyond them."""


class Histogram:
    """A histogram. A quantile is a bucket's upper bound, so at most an eighth too large."""

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
        """How many there were."""
        return sum(self.counts)

    def copy(self) -> "Histogram":
        """Return what was counted so far."""
        return Histogram(self.counts, self.total)

    def since(self, before: "Histogram | None") -> "Histogram":
        """Return what came after a copy was made; None: all."""
        if before is None:
            return self.copy()
        left = (now - then for now, then in zip(self.counts, before.counts, strict=True))
        return Histogram(left, self.total - before.total)

    def quantiles(self, *parts: float) -> list[float]:
        """Return, in seconds, what such parts of all did not exceed; 0 where there are none."""
        up_to = list(accumulate(self.counts))
        return [_bound(up_to, part) if up_to[-1] else 0.0 for part in parts]

    def buckets(self, bounds: Sequence[float]) -> list[int]:
        """Return how many were no longer than each of some of BOUNDS."""
        up_to = list(accumulate(self.counts))
        return [up_to[BOUNDS.index(bound)] for bound in bounds]


def _bound(up_to: Sequence[int], part: float) -> float:
    index = bisect_left(up_to, part * up_to[-1])
    return BOUNDS[min(index, len(BOUNDS) - 1)]
