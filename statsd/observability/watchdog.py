"""A thread that ends the process when its consumer no longer comes round.

What such a process holds comes back by itself, so an end is better than a daemon that looks
alive and does nothing. It is a thread, and ends the process the hard way, because the event
loop may be what is stuck.
"""

import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import Self

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two looks
LAST_WORDS = 2.0  # seconds for the log, which may be what everything waits for


class Watchdog:
    """Watches for as long as the context is open."""

    def __init__(
        self,
        last_turn: Callable[[], float],
        limit: float,
        *,
        interval: float = INTERVAL,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        """`last_turn` tells when (monotonic) the consumer last came round.

        After `limit` seconds without a turn `end` is called, with 1, in the watching thread.
        """
        self._last_turn = last_turn
        self._limit = limit
        self._interval = interval
        self._end = end
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    @property
    def watching(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._interval):
            silent = monotonic() - self._last_turn()
            if silent > self._limit:
                last_words = threading.Thread(target=_tell, args=[silent], daemon=True)
                last_words.start()
                last_words.join(LAST_WORDS)
                self._end(1)
                return


def _tell(silent: float) -> None:
    faulthandler.dump_traceback(sys.__stderr__ or 2)
    log.critical(
        "the consumer no longer comes round; ending the process",
        extra={"silent_seconds": round(silent, 1)},
    )
