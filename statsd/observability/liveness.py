"""Liveness: whether the event loop runs and the consumer consumes.

The loop pulses this object, which also knows when the consumer last ran. A thread looks at both.
It logs when one of them falls silent and when it runs again, and it ends the process when the
consumer hangs. This needs a thread, and an end without an orderly shutdown, because the event loop
itself may hang. Nothing is lost by that: entries stay pending, and leases expire.
"""

import asyncio
import logging
import math
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from time import monotonic
from types import FrameType
from typing import NamedTuple, Self

from statsd.addresses.postgres import LONGEST_CONNECT
from statsd.servers.database import ANSWER_MARGIN, POOL_TIMEOUT
from statsd.servers.redis_client import COMMAND_TIMEOUT, READ_MARGIN
from statsd.settings import Settings

log = logging.getLogger(__name__)

PULSE_INTERVAL = 0.1  # seconds
LOOK_INTERVAL = 0.5  # seconds between two looks of the thread
LOG_TIMEOUT = 2.0  # seconds for a log line
BLOCKED_AFTER = 3.0  # seconds without a pulse
MARGIN = 10.0  # seconds that the consumer may be silent beyond a wait that the settings allow
FRAMES = 5  # of the stack, the innermost


class Limits(NamedTuple):
    """Seconds of silence."""

    blocked: float
    """Of the event loop: the daemon should be restarted."""
    silent: float
    """Of the consumer: the daemon should be restarted."""
    hanging: float
    """Of the consumer: the process is ended."""


def limits_of(settings: Settings) -> Limits:
    """Return the limits of a daemon with these settings.

    Between two turns the consumer may wait for new entries; or for a connection and one statement;
    or for three commands of Redis. It hangs when it is silent for longer than each of these.
    """
    read = settings.block + READ_MARGIN
    statement = POOL_TIMEOUT + LONGEST_CONNECT + settings.statement_timeout + ANSWER_MARGIN
    return Limits(
        blocked=BLOCKED_AFTER,
        silent=settings.block + MARGIN,
        hanging=max(read, statement, 3 * COMMAND_TIMEOUT) + MARGIN,
    )


class Liveness:
    """Watches the loop while the context is open. Other threads may read it."""

    def __init__(
        self,
        limits: Limits,
        is_waiting: Callable[[], bool],
        *,
        interval: float = LOOK_INTERVAL,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        """`is_waiting` says whether the daemon waits for a server; it is called in the loop.

        `end` is called in the thread, with exit code 1.
        """
        self._limits = limits
        self._is_waiting = is_waiting
        self._interval = interval
        self._end = end
        self._pulsed = monotonic()
        self._waited = -math.inf
        self._last_turn: Callable[[], float] | None = None
        self._last_finished: Callable[[], float] | None = None
        self._worst_lag = 0.0
        self.recent_lag = 0.0
        """The longest delay in seconds, as `take_lag` last returned it."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="liveness", daemon=True)

    async def step(self) -> None:
        """Pulse once: sleep, and note how late the loop woke this task."""
        began = monotonic()
        await asyncio.sleep(PULSE_INTERVAL)
        self._pulsed = monotonic()
        self._worst_lag = max(self._worst_lag, self._pulsed - began - PULSE_INTERVAL)
        if self._is_waiting():
            self._waited = self._pulsed

    @contextmanager
    def consuming(
        self, last_turn: Callable[[], float], last_finished: Callable[[], float]
    ) -> Iterator[None]:
        """Watch the consumer too while the context is open.

        They say when it last ran, and when it last finished a step (monotonic). A wait for a server
        counts as both.
        """
        self._last_turn, self._last_finished = last_turn, last_finished
        try:
            yield
        finally:
            self._last_turn = self._last_finished = None

    @property
    def loop_silence(self) -> float:
        """Seconds since the loop last ran."""
        return monotonic() - self._pulsed

    @property
    def consumer_silence(self) -> float:
        """Seconds since the consumer last ran; 0 while it is not watched."""
        return self._since(self._last_turn)

    @property
    def unfinished(self) -> float:
        """Seconds since the consumer last finished a step; 0 while it is not watched."""
        return self._since(self._last_finished)

    def _since(self, last: Callable[[], float] | None) -> float:
        return max(0.0, monotonic() - max(last(), self._waited)) if last else 0.0

    def take_lag(self) -> float:
        """Return the longest delay of the loop since the last call, in seconds."""
        self.recent_lag, self._worst_lag = self._worst_lag, 0.0
        return self.recent_lag

    def problems(self) -> list[str]:
        """Return why the daemon should be restarted, a sentence each."""
        loop, consumer, step = self.loop_silence, self.consumer_silence, self.unfinished
        if loop > self._limits.blocked:  # then the consumer is silent as well
            return [f"the event loop has been blocked for {loop:.0f} seconds"]
        if consumer > self._limits.silent:
            return [f"the consumer has been silent for {consumer:.0f} seconds"]
        if step > self._limits.silent:
            return [f"the consumer has finished nothing for {step:.0f} seconds; the log says why"]
        return []

    def __enter__(self) -> Self:
        self._loop_thread = threading.get_ident()
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        loop = _Silence("the event loop", self._limits.blocked, self._log_blocked)
        consumer = _Silence("the consumer", self._limits.silent, _log_silent)
        while not self._closed.wait(self._interval):
            if (seconds := self.consumer_silence) > self._limits.hanging:
                try:
                    _in_thread(_log_hang, seconds)
                finally:
                    self._end(1)
                return
            loop.note(self.loop_silence)
            if self._last_turn and not loop.is_logged:
                consumer.note(self.consumer_silence)

    def _log_blocked(self, seconds: float) -> None:
        where = _places(_frames().get(self._loop_thread), FRAMES)
        log.warning("the event loop is blocked", extra={"seconds": seconds, "where": where})


class _Silence:
    """Logs once when a silence exceeds its limit, and once when it is over."""

    def __init__(self, name: str, limit: float, log_start: Callable[[float], None]) -> None:
        self._name = name
        self._limit = limit
        self._log_start = log_start
        self._began: float | None = None

    @property
    def is_logged(self) -> bool:
        """Whether it was logged and goes on."""
        return self._began is not None

    def note(self, seconds: float) -> None:
        """Take its present length."""
        if seconds > self._limit and self._began is None:
            self._began = monotonic() - seconds
            _in_thread(self._log_start, seconds)
        elif seconds <= self._limit and self._began is not None:
            _in_thread(self._log_end, monotonic() - self._began)
            self._began = None

    def _log_end(self, seconds: float) -> None:
        log.info("%s runs again", self._name, extra={"seconds": seconds})


def _in_thread(log_line: Callable[[float], None], seconds: float) -> None:
    """Log in a thread of its own: nothing that a line may wait for holds the watchdog up."""
    thread = threading.Thread(target=log_line, args=[round(seconds, 1)], daemon=True)
    thread.start()
    thread.join(LOG_TIMEOUT)


def _log_silent(seconds: float) -> None:
    log.warning("the consumer is silent", extra={"seconds": seconds})


def _log_hang(seconds: float) -> None:
    """Log the stacks of all threads, and wait until the line is written."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks = {names.get(ident, str(ident)): _places(frame) for ident, frame in _frames().items()}
    log.critical(
        "the consumer hangs; ending the process",
        extra={"silent_seconds": seconds, "stacks": stacks},
    )
    for handler in logging.getLogger().handlers:
        handler.flush()


def _frames() -> dict[int, FrameType]:
    """Return where each thread is."""
    return sys._current_frames()  # noqa: SLF001 - there is no other way


def _places(frame: FrameType | None, most: int | None = None) -> list[str]:
    """Return the places of a stack, the innermost first. Source files are not read: disks hang."""
    stack = islice(traceback.walk_stack(frame), most) if frame else []
    return [f"{each.f_code.co_filename}:{line} {each.f_code.co_name}" for each, line in stack]
