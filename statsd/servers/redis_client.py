"""The client of Redis, and the setting to correct when a server refuses the daemon."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import redis
from redis.asyncio import Redis
from redis.connection import HiredisRespSerializer
from redis.typing import EncodableT

from statsd.addresses.redis_clients import async_client, with_checks
from statsd.errors import SettingsError
from statsd.servers.outages import brief, sqlstate

READ_MARGIN = 5.0  # seconds that a read may take beyond its BLOCK
COMMAND_TIMEOUT = 10.0  # seconds

_REFUSALS = {
    "28P01": "the password is wrong, or the user does not exist",
    "28000": "this user may not log in from here (see pg_hba.conf)",
    "3D000": "the database does not exist",
    "42501": "the user lacks SELECT on a table",
}
# pgbouncer sends these with the SQLSTATE of any protocol error.
_POOLER_REFUSALS = ("no such database", "no such user", "authentication failed", "auth failed")


@asynccontextmanager
async def redis_client(url: str, *, block: float = 0.0) -> AsyncIterator[Redis]:
    """Yield a client whose commands end in bounded time.

    With `block`, it is for reads that wait so many seconds. It retries nothing by itself: a
    command that was sent twice may have been executed twice.
    """
    client = async_client(
        url,
        {
            "socket_timeout": block + READ_MARGIN if block else COMMAND_TIMEOUT,
            "socket_connect_timeout": COMMAND_TIMEOUT,
        },
    )
    with_checks(client, _PacksQuickly)
    sentinels = getattr(client.connection_pool, "sentinel_manager", None)
    try:
        yield client
    finally:
        for each in [client, *(sentinels.sentinels if sentinels else ())]:
            await each.aclose()


class _PacksQuickly:
    """Packs commands in C, as the synchronous connections of redis-py do.

    Boards are a million arguments. In Python, each would take a microsecond of the event loop.
    """

    _packer: Any = HiredisRespSerializer()

    def pack_command(self, *arguments: EncodableT) -> list[bytes]:
        packed: list[bytes] = self._packer.pack(*arguments)
        return packed


def checked(probe: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
    """Make `probe` raise SettingsError where waiting does not help, as for a wrong password."""

    async def check() -> None:
        try:
            await probe()
        except Exception as error:
            reason = _refusal(error)
            if reason is None:
                raise
            raise SettingsError(reason) from error

    return check


def _refusal(error: Exception) -> str | None:
    """Return which setting to correct; None if the error is of another kind."""
    if isinstance(error, redis.AuthenticationError) or _says(error, "NOAUTH", "WRONGPASS"):
        return (
            "REDIS_URL: the server refused the user or password; "
            f"want redis://user:password@host:6379/0 ({brief(error)})"
        )
    if _says(error, "DB index"):
        return f"REDIS_URL: the server has no database of that number ({brief(error)})"
    reason = _REFUSALS.get(sqlstate(error) or "")
    if reason is None and sqlstate(error) == "08P01" and _says(error, *_POOLER_REFUSALS):
        reason = "the pooler refused the user, the password or the database"
    return reason and f"DATABASE_URL: {reason} ({brief(error)})"


def _says(error: Exception, *words: str) -> bool:
    return any(word.lower() in str(error).lower() for word in words)
