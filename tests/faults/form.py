"""How much a run of the fault scenarios does, and what its chances come from."""

import os
from random import SystemRandom
from threading import Event
from typing import TypeVar

T = TypeVar("T")

FULL = os.environ.get("STATSD_TEST_FULL", "0") == "1"
SEED = int(os.environ.get("STATSD_TEST_SEED") or SystemRandom().randrange(1_000_000))


def sized(short: T, full: T) -> T:
    """Return what fits the form: the short one is for every day, STATSD_TEST_FULL=1 the full."""
    return full if FULL else short


OUTAGE = sized(2.0, 10.0)  # seconds that a server is away


def pass_time(seconds: float) -> None:
    """Let a fault last, or come at another moment; never to wait for a result."""
    Event().wait(seconds)
