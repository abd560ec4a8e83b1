"""Memory that is given back: the settings of glibc's malloc that Python leaves as they are.

Rebuilding a large dojo takes some tens of MB for a second. By default each thread that shapes
values has a heap of its own, and what was freed once makes glibc keep blocks of that size from
then on.
"""

import ctypes
import os
from typing import NamedTuple


class _Setting(NamedTuple):
    """A setting of `mallopt(3)`."""

    parameter: int
    value: int
    variable: str
    """In the environment, where an operator may have set it."""


_SETTINGS = (
    _Setting(-8, 2, "MALLOC_ARENA_MAX"),  # heaps
    # Bytes, the default to begin with; set by hand, it does not grow.
    _Setting(-1, 128 * 1024, "MALLOC_TRIM_THRESHOLD_"),
)


def give_back() -> None:
    """Have the C library give back what is free, but for what those variables say.

    Other libraries than glibc have no such settings, and are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for setting in _SETTINGS:
        if mallopt and setting.variable not in os.environ:
            mallopt(setting.parameter, setting.value)
