"""Bisect: when the work on a batch fails, split it in half until the failing item is alone.

This is the one place where exceptions are turned into results. An outage is raised, since no item
caused it.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from statsd.servers.errors import is_outage

T = TypeVar("T")
R = TypeVar("R")


async def bisect(
    items: Sequence[T],
    work: Callable[[Sequence[T]], Awaitable[R]],
    is_raised: Callable[[BaseException], bool] = is_outage,
) -> tuple[list[R], list[tuple[T, Exception]]]:
    """Return the results of the parts that succeeded, and each failed item with its error.

    An error for which `is_raised` returns true is raised.
    """
    try:
        return [await work(items)], []
    except Exception as error:
        if is_raised(error):
            raise
        if len(items) == 1:
            return [], [(items[0], error)]
    middle = len(items) // 2
    results, failures = await bisect(items[:middle], work, is_raised)
    more_results, more_failures = await bisect(items[middle:], work, is_raised)
    return results + more_results, failures + more_failures
