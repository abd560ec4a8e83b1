"""Tell an outage from a failure, and wait for servers that are away.

An outage is no fault of the job or the event. The work under way is put back, and no attempt is
counted. The daemon waits without limit, logs this once and then at intervals, and continues when
the server is back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic

import redis
import sqlalchemy.exc

from statsd.errors import MissingTableError, SettingsError

log = logging.getLogger(__name__)

PAUSE = (0.1, 2.0)  # seconds between two probes: the first pause, the longest pause
REMINDER = 30.0  # seconds between two log lines about the same outage

_REDIS = (
    redis.ConnectionError,  # refused, lost, loading
    redis.TimeoutError,
    redis.exceptions.ReadOnlyError,  # a replica, during a failover
    redis.exceptions.MasterDownError,  # a replica that lost its primary
    redis.exceptions.OutOfMemoryError,
)
# SQLSTATEs of a server, or of a pooler in front of it, that serves no client now: connection
# exceptions, too many connections, shutdown and start-up. During a restore, the database may be
# missing and authentication may fail.
_OUTAGE_SQLSTATES = ("08", "53300", "57P", "3D000", "28")
# SQLSTATEs of a statement that fails only now: a lock timeout, a full disk or memory, a table
# that a migration or a restore removed for a moment.
_TRANSIENT_SQLSTATES = ("53", "57014", "55P03", "40", "42P01", "42703", "3F000")
# Temporary errors of Redis: the stream or its group was deleted (both are made anew), another
# client's script is running, saving fails so that writes are refused, replicas are missing.
_OUTAGE_REPLIES = ("NOGROUP", "UNBLOCKED", "BUSY ", "MISCONF", "NOREPLICAS")
_CLOSED = "the handler is closed"
_POSTGRES = (
    OSError,  # refused, reset, no such host; TimeoutError is one too
    sqlalchemy.exc.TimeoutError,  # an engine's pool had no free connection
)


def sqlstate(error: BaseException | None) -> str | None:
    """Return the SQLSTATE of an error of PostgreSQL or of its causes; None if there is none."""
    while error is not None:
        state = getattr(error, "sqlstate", None)
        if isinstance(state, str):
            return state
        error = error.__cause__ or getattr(error, "orig", None)
    return None


def is_outage(error: BaseException) -> bool:
    """Return whether an error means that a server is away for now."""
    if isinstance(error, SettingsError):
        return False  # whatever its cause: waiting does not correct a setting
    if isinstance(error, (*_REDIS, *_POSTGRES, MissingTableError)):
        return True
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated:
        return True
    if isinstance(error, redis.ResponseError) and str(error).startswith(_OUTAGE_REPLIES):
        return True
    # From uvloop, on a write to a connection that the other side has closed.
    if isinstance(error, RuntimeError) and str(error).endswith(_CLOSED):
        return True
    return (sqlstate(error) or "").startswith(_OUTAGE_SQLSTATES)


async def wait_for(
    name: str, probe: Callable[[], Awaitable[object]], stopping: asyncio.Event, address: str = ""
) -> None:
    """Return when `probe` succeeds, or when `stopping` is set; `address` is for the log.

    Logs the beginning of the outage, a reminder at intervals, and its end. Raises every error of
    `probe` that is no outage.
    """
    began = monotonic()
    logged: float | None = None  # when
    pause, longest = PAUSE
    while not stopping.is_set():
        try:
            await probe()
        except Exception as error:
            if not is_outage(error):
                raise
            if logged is None or monotonic() - logged >= REMINDER:
                logged = monotonic()
                where = {"address": address} if address else {}
                fields = {"server": name, "error": brief(error), **where}
                log.warning("waiting for %s", name, extra=fields)
        else:
            if logged is not None:
                seconds = round(monotonic() - began, 1)
                log.info("%s is back", name, extra={"server": name, "seconds": seconds})
            return
        await pause_unless(stopping, pause)
        pause = min(pause * 2, longest)


async def pause_unless(stopping: asyncio.Event, seconds: float | None) -> None:
    """Return after so many seconds (None: never), or as soon as `stopping` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return


def is_transient(error: BaseException) -> bool:
    """Return whether the same work is likely to succeed later, without any correction.

    This holds for outages, and for errors of PostgreSQL that depend on the moment and not on the
    statement. A statement timeout is one of these, although a smaller batch may be what it needs.
    """
    return is_outage(error) or (sqlstate(error) or "").startswith(_TRANSIENT_SQLSTATES)


class OutageWaiter:
    """Waits until every server answers. Loops that wait at the same time share the probes."""

    def __init__(
        self, probes: Mapping[str, Callable[[], Awaitable[object]]], stopping: asyncio.Event
    ) -> None:
        """Take, by server name, a coroutine function that fails while the server is away."""
        self._probes = probes
        self._stopping = stopping
        self._waiting: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> bool:
        """Whether a loop is waiting for a server."""
        return self._waiting is not None and not self._waiting.done()

    async def wait(self) -> None:
        """Return when all servers answer, or when `stopping` is set."""
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.create_task(self._wait_for_all(), name="wait for servers")
        await asyncio.shield(self._waiting)

    async def _wait_for_all(self) -> None:
        for name, probe in self._probes.items():
            await wait_for(name, probe, self._stopping)


def brief(error: BaseException) -> str:
    """Return one line about an error, without the statement that SQLAlchemy adds."""
    original = getattr(error, "orig", None) or error
    lines = str(original).splitlines() or [""]
    return f"{type(original).__name__}: {lines[0][:300]}"
