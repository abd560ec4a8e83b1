"""Retry delays: how long a failed job waits before it is tried again."""

import random
from collections.abc import Sequence

JITTER = 0.2  # a delay is longer by up to this part, so that jobs do not fail together again


def with_jitter(delays: Sequence[float]) -> list[float]:
    """Return the delays of the setting STATSD_RETRY_DELAYS (seconds), each a little longer."""
    return [delay * random.uniform(1, 1 + JITTER) for delay in delays]  # noqa: S311 - no secret
