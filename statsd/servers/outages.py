"""Tell an outage from a failure, and wait for servers that are gone.

A lost server is nobody's fault: what was under way is put back and no attempt is counted. The
daemon waits, however long, says so once and then at intervals, and goes on by itself.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic

import redis
import sqlalchemy.exc

from statsd.errors import MissingTableError, SettingsError

log = logging.getLogger(__name__)

PAUSE = (0.1, 2.0)  # seconds between two looks: the first, the longest
REMIND = 30.0  # seconds between two lines about the same outage

_REDIS = (
    redis.ConnectionError,  # refused, lost, loading
    redis.TimeoutError,
    redis.exceptions.ReadOnlyError,  # a replica, during a failover
    redis.exceptions.MasterDownError,  # a replica that lost its primary
    redis.exceptions.OutOfMemoryError,
)
# SQLSTATEs by which PostgreSQL, or a pooler before it, says that it serves nobody just now:
# connection exceptions, too many connections, shutdown and start-up; and what a restore does for
# a while (no such database; authentication being set).
_SQLSTATES = ("08", "53300", "57P", "3D000", "28")
# Those by which it says that it cannot do this now: a lock that is waited for too long, a table
# that a migration or a restore has taken away for a moment, a disk or a memory that is full.
_TRANSIENT = ("53", "57014", "55P03", "40", "42P01", "42703", "3F000")
# Errors that Redis answers for a while: the stream or its group was deleted (both are made
# anew), a script of somebody else's runs, it cannot save and so does not write, its
# replicas are away.
_PASSING = ("NOGROUP", "UNBLOCKED", "BUSY ", "MISCONF", "NOREPLICAS")
_CLOSED = "the handler is closed"
_POSTGRES = (
    OSError,  # refused, reset, no such host; TimeoutError is one too
    sqlalchemy.exc.TimeoutError,  # no connection of the pool came free
)


def sqlstate(error: BaseException | None) -> str | None:
    """Return the SQLSTATE of an error of PostgreSQL, however it is wrapped."""
    while error is not None:
        state = getattr(error, "sqlstate", None)
        if isinstance(state, str):
            return state
        error = error.__cause__ or getattr(error, "orig", None)
    return None


def is_outage(error: BaseException) -> bool:
    """Say whether an error means that a server is gone for now."""
    if isinstance(error, SettingsError):
        return False  # whatever caused it: waiting does not mend it
    if isinstance(error, (*_REDIS, *_POSTGRES, MissingTableError)):
        return True
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated:
        return True
    if isinstance(error, redis.ResponseError) and str(error).startswith(_PASSING):
        return True
    # How uvloop says that the other side has closed the connection that is written to.
    if isinstance(error, RuntimeError) and str(error).endswith(_CLOSED):
        return True
    return (sqlstate(error) or "").startswith(_SQLSTATES)


async def wait_for(
    name: str, probe: Callable[[], Awaitable[object]], stopping: asyncio.Event, address: str = ""
) -> None:
    """Return when `probe` succeeds, or when it is time to stop; `address` is for the log.

    The outage is logged when it is noticed, then at intervals, and when it ends. What is no
    outage is raised.
    """
    began = monotonic()
    told: float | None = None
    pause, longest = PAUSE
    while not stopping.is_set():
        try:
            await probe()
        except Exception as error:
            if not is_outage(error):
                raise
            if told is None or monotonic() - told >= REMIND:
                told = monotonic()
                where = {"address": address} if address else {}
                told_of = {"server": name, "error": brief(error), **where}
                log.warning("waiting for %s", name, extra=told_of)
        else:
            if told is not None:
                seconds = round(monotonic() - began, 1)
                log.info("%s is back", name, extra={"server": name, "seconds": seconds})
            return
        await pause_unless(stopping, pause)
        pause = min(pause * 2, longest)


async def pause_unless(stopping: asyncio.Event, seconds: float | None) -> None:
    """Return after so many seconds (None: never), or at once when it is time to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return


def is_transient(error: BaseException) -> bool:
    """Say whether the same work may well succeed later, with nothing mended by us.

    That is an outage, or an error of PostgreSQL that is about the moment and not about the
    statement. The latter may still be due to how much was asked for at once.
    """
    return is_outage(error) or (sqlstate(error) or "").startswith(_TRANSIENT)


class OutageWaiter:
    """Wait until every server answers; loops that wait at the same time wait together."""

    def __init__(
        self, probes: Mapping[str, Callable[[], Awaitable[object]]], stopping: asyncio.Event
    ) -> None:
        """Take, by each server's name, a coroutine function that fails while it is gone."""
        self._probes = probes
        self._stopping = stopping
        self._waiting: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> bool:
        """Whether a server is being waited for."""
        return self._waiting is not None and not self._waiting.done()

    async def wait(self) -> None:
        """Return when all servers answer, or when it is time to stop."""
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.create_task(self._wait_for_all(), name="wait for servers")
        await asyncio.shield(self._waiting)

    async def _wait_for_all(self) -> None:
        for name, probe in self._probes.items():
            await wait_for(name, probe, self._stopping)


def brief(error: BaseException) -> str:
    """Return one line about an error, without the statement that SQLAlchemy adds."""
    provenance = getattr(error, "orig", None) or error
    lines = str(provenance).splitlines() or [""]
    return f"{type(provenance).__name__}: {lines[0][:300]}"
