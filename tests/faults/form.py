"""The size of a run of the fault scenarios, and its random seed."""

import os
from random import SystemRandom
from threading import Event
from typing import TypeVar

T = TypeVar("T")

FULL = os.environ.get("STATSD_TEST_FULL", "0") == "1"
SEED = int(os.environ.get("STATSD_TEST_SEED") or SystemRandom().randrange(1_000_000))


def sized(short: T, full: T) -> T:
    """Return `full` if STATSD_TEST_FULL=1 is set, else `short`."""
    return full if FULL else short


OUTAGE = sized(2.0, 10.0)  # seconds without a server


def pass_time(seconds: float) -> None:
    """Wait, so that a fault lasts or comes at another moment; never to wait for a result."""
    Event().wait(seconds)
