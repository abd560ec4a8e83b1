"""Wait for a condition while the daemons run."""

import subprocess
from collections.abc import Callable
from time import perf_counter, sleep

DEADLINE = 600.0  # seconds
POLL_INTERVAL = 0.002  # seconds
CHECK_INTERVAL = 0.5  # seconds between two checks of the daemons

daemons: list["subprocess.Popen[bytes]"] = []
"""The daemons that should be running."""


def check_daemons() -> None:
    """Raise RuntimeError if one of the daemons has ended."""
    for each in daemons:
        if each.poll() is not None:
            raise RuntimeError(f"a daemon ended by itself, with {each.returncode}")


def wait(condition: Callable[[], bool], name: str, *, interval: float = POLL_INTERVAL) -> float:
    """Wait until the condition is true; return the duration in seconds.

    It is examined each `interval` seconds. Raises TimeoutError, with the name of the condition,
    after ten minutes, and RuntimeError when a daemon has ended.
    """
    began = checked = perf_counter()
    while not condition():
        now = perf_counter()
        if now - checked > CHECK_INTERVAL:
            checked = now
            check_daemons()
        if now - began > DEADLINE:
            raise TimeoutError(f"not within {DEADLINE:.0f} s: {name}")
        sleep(interval)
    return perf_counter() - began
