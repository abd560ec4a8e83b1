"""Wait for servers that are away.

An outage is no fault of the job or the event. The work under way is put back, and no attempt is
counted. The daemon waits without limit, logs this once and then at intervals, and continues when
the server is back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import TypeVar

from statsd.errors import SettingsError
from statsd.servers.errors import advice, brief, is_transient, told_in_public, wrong_setting

T = TypeVar("T")

log = logging.getLogger(__name__)

PAUSE = (0.1, 2.0)  # seconds between two probes: the first pause, the longest pause
REMINDER = 60.0  # seconds between two log lines about the same outage


async def wait_for(
    name: str,
    probe: Callable[[], Awaitable[object]],
    stopping: asyncio.Event,
    *,
    address: str = "",
    reasons: dict[str, str] | None = None,
) -> None:
    """Return when `probe` succeeds, or when `stopping` is set; `address` is for the log.

    While it waits, `reasons` has by name why, in words for everybody.

    Logs the beginning of the outage, a reminder at intervals, and its end. Raises every error of
    `probe` that is no outage.
    """
    reasons = {} if reasons is None else reasons
    began = monotonic()
    logged: float | None = None  # when
    pause, longest = PAUSE
    while not stopping.is_set():
        try:
            await probe()
        except Exception as error:
            if not is_transient(error):
                raise
            reasons[name] = told_in_public(name, error)
            if logged is None or monotonic() - logged >= REMINDER:
                logged = monotonic()
                where = {"address": address} if address else {}
                fields = {
                    "server": name,
                    "error": brief(error),
                    "advice": advice(error),
                    **where,
                }
                log.warning("waiting for %s", name, extra=fields)
        else:
            reasons.pop(name, None)
            if logged is not None:
                seconds = round(monotonic() - began, 1)
                log.info("%s is back", name, extra={"server": name, "seconds": seconds})
            return
        await pause_unless(stopping, pause)
        pause = min(pause * 2, longest)
    reasons.pop(name, None)


def checked(probe: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """Make `probe` raise SettingsError where waiting does not help, as for a wrong password."""

    async def check() -> T:
        try:
            return await probe()
        except Exception as error:
            reason = wrong_setting(error)
            if reason is None:
                raise
            raise SettingsError(reason) from error

    return check


async def pause_unless(stopping: asyncio.Event, seconds: float | None) -> None:
    """Return after so many seconds (None: never), or as soon as `stopping` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return


class OutageWaiter:
    """Waits until every server answers. Loops that wait at the same time share the probes."""

    def __init__(
        self, probes: Mapping[str, Callable[[], Awaitable[object]]], stopping: asyncio.Event
    ) -> None:
        """Take, by server name, a coroutine function that fails while the server is away."""
        self._probes = probes
        self._stopping = stopping
        self.reasons: dict[str, str] = {}
        """Why servers do not serve, by name. Other threads may read it."""
        self._waiting: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> bool:
        """Whether the work is waiting for a server."""
        return bool(self.reasons) or (self._waiting is not None and not self._waiting.done())

    async def wait(self) -> None:
        """Return when all servers answer, or when `stopping` is set."""
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.create_task(self._wait_for_all(), name="wait for servers")
        await asyncio.shield(self._waiting)

    async def _wait_for_all(self) -> None:
        for name, probe in self._probes.items():
            await wait_for(name, probe, self._stopping, reasons=self.reasons)
