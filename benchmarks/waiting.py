"""Waiting for a condition, for as long as the daemons live that are to bring it about."""

import subprocess
from collections.abc import Callable
from time import perf_counter, sleep

DEADLINE = 600.0  # seconds
POLL = 0.002  # seconds
LOOK = 0.5  # seconds between two looks at the daemons

daemons: list["subprocess.Popen[bytes]"] = []
"""Those that run, and that nobody has told to end."""


def see_that_daemons_live() -> None:
    """Raise RuntimeError if one of them has ended."""
    for each in daemons:
        if each.poll() is not None:
            raise RuntimeError(f"a daemon ended by itself, with {each.returncode}")


def wait(condition: Callable[[], bool], what: str) -> float:
    """Return after how many seconds the condition held.

    Raises TimeoutError after ten minutes, RuntimeError when a daemon has ended.
    """
    began = looked = perf_counter()
    while not condition():
        now = perf_counter()
        if now - looked > LOOK:
            looked = now
            see_that_daemons_live()
        if now - began > DEADLINE:
            raise TimeoutError(f"not within {DEADLINE:.0f} s: {what}")
        sleep(POLL)
    return perf_counter() - began
