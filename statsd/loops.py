"""Loops: steps that the daemon repeats until it stops, and the end of their tasks."""

import asyncio
import logging
from collections.abc import Collection
from time import monotonic
from typing import Any, Protocol

from statsd.observability.counters import Counters
from statsd.servers.errors import advice, brief, is_denied, is_transient
from statsd.servers.outages import OutageWaiter, pause_unless

log = logging.getLogger(__name__)

CONSUMER = "consumer"
"""The loop that the liveness watches."""
PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 2.0)  # seconds before a step that failed is tried again
QUIET = 5.0  # seconds after a line about a lost server; others are of level DEBUG
CANCEL_INTERVAL = 1.0  # seconds


class Loop(Protocol):
    """Work that the daemon repeats."""

    async def step(self) -> None:
        """Do some work, or wait a short while for it."""

    async def recover(self) -> None:
        """Put things right after a step failed because of a server."""


class LoopRunner:
    """Repeats loops until the daemon stops. When a server is lost, they wait for it."""

    def __init__(self, servers: OutageWaiter, stopping: asyncio.Event, counters: Counters) -> None:
        """Take the event that ends the loops; an error that is not transient sets it."""
        self._servers = servers
        self._stopping = stopping
        self._counters = counters
        self._logged = -QUIET
        self._failing: dict[str, tuple[float, Exception]] = {}

    @property
    def failing(self) -> list[str]:
        """Why loops have failed for some seconds, without the servers' own texts."""
        found = (
            f"the loop {name!r} fails ({type(error).__name__}); {advice(error)}"
            for name, (since, error) in self._failing.copy().items()
            if monotonic() - since >= QUIET or is_denied(error)
        )
        return list(found)

    @property
    def is_denied(self) -> bool:
        """Whether the consumer cannot go on before somebody grants a right."""
        found = self._failing.get(CONSUMER)
        return found is not None and is_denied(found[1])

    async def repeat(self, name: str, loop: Loop) -> None:
        """Repeat a loop's step. Raises the errors that are not transient."""
        failures = 0
        while not self._stopping.is_set():
            try:
                if failures:
                    await pause_unless(self._stopping, PAUSES[min(failures, len(PAUSES)) - 1])
                    await self._servers.wait()
                    await loop.recover()
                await loop.step()
                failures = 0
                self.works(name)
            except Exception as error:
                if not is_transient(error):
                    # The task group cancels the other loops; a client may lose that cancellation.
                    self._stopping.set()
                    raise
                failures += 1
                self.lost_server(name, error)

    def works(self, loop: str) -> None:
        """Note that a loop works again."""
        self._failing.pop(loop, None)

    def lost_server(self, loop: str, error: Exception) -> None:
        """Log and count a lost server, once for all the loops that notice it."""
        since, _ = self._failing.get(loop, (monotonic(), error))
        self._failing[loop] = since, error
        quiet = monotonic() - self._logged < QUIET
        self._counters.lost_servers += not quiet
        self._logged = self._logged if quiet else monotonic()
        log.log(
            logging.DEBUG if quiet else logging.WARNING,
            "lost a server",
            extra={"loop": loop, "error": brief(error), "advice": advice(error)},
        )


async def cancel(tasks: Collection["asyncio.Task[Any]"], interval: float = CANCEL_INTERVAL) -> None:
    """Cancel tasks, again every `interval` seconds, until they have ended.

    Once is not enough: a cancellation that arrives together with a reply is lost by
    `asyncio.wait_for` of Python 3.11, which database clients use, and the task goes on.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=interval)
