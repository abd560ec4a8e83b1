"""A thread that says in the log when the event loop is blocked, where, and when it turns again.

It is no part of the watchdog: if the log itself is what blocks, this thread waits for it, too.
"""

import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from statsd.observability.loop_lag import LoopLag

log = logging.getLogger(__name__)

INTERVAL = 0.5  # seconds between two looks
FRAMES = 5  # of the stack, the innermost


@contextmanager
def watched(loop_lag: LoopLag, limit: float) -> Iterator[None]:
    """Watch this thread's loop while the context is open; `limit` is in seconds."""
    over = threading.Event()
    arguments = (loop_lag, limit, threading.get_ident(), over)
    thread = threading.Thread(target=_watch, args=arguments, name="loop watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def _watch(loop_lag: LoopLag, limit: float, loop_thread: int, over: threading.Event) -> None:
    since: float | None = None
    while not over.wait(INTERVAL):
        silent = loop_lag.silent
        if silent > limit and since is None:
            since = monotonic() - silent
            log.warning(
                "the event loop is blocked",
                extra={"seconds": round(silent, 1), "where": _where(loop_thread)},
            )
        elif silent <= limit and since is not None:
            log.info("the event loop turns again", extra={"seconds": round(monotonic() - since, 1)})
            since = None


def _where(thread: int) -> list[str]:
    """Return where a thread is, the innermost frame first."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - there is no other way
    stack = traceback.extract_stack(frame) if frame else []
    return [f"{each.filename}:{each.lineno} {each.name}" for each in reversed(stack[-FRAMES:])]
