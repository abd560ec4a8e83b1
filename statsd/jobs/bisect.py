"""Do work on a batch; where it fails, halve the batch until what fails is alone.

The one place where failures are put aside. An outage is no failure and passes through.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from statsd.servers.outages import is_outage

T = TypeVar("T")
R = TypeVar("R")


async def bisect(
    items: Sequence[T],
    work: Callable[[Sequence[T]], Awaitable[R]],
    permit: Callable[[BaseException], bool] = is_outage,
) -> tuple[list[R], list[tuple[T, Exception]]]:
    """Return the results of the parts that succeeded, and the items that failed with why.

    An error that is `permit` is nobody's failure, and is raised.
    """
    try:
        return [await work(items)], []
    except Exception as error:
        if permit(error):
            raise
        if len(items) == 1:
            return [], [(items[0], error)]
    middle = len(items) // 2
    results, failures = await bisect(items[:middle], work, permit)
    more_results, more_failures = await bisect(items[middle:], work, permit)
    return results + more_results, failures + more_failures
