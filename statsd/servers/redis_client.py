"""The daemon's client of Redis."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.connection import HiredisRespSerializer
from redis.typing import EncodableT

from statsd.addresses.redis_clients import aclose, async_client, with_checks

READ_MARGIN = 5.0  # seconds that a read may take beyond its BLOCK
COMMAND_TIMEOUT = 10.0  # seconds


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
    try:
        yield client
    finally:
        await aclose(client)


class _PacksQuickly:
    """Packs commands in C, as the synchronous connections of redis-py do.

    Boards are a million arguments. In Python, each would take a microsecond of the event loop.
    """

    _packer: Any = HiredisRespSerializer()

    def pack_command(self, *arguments: EncodableT) -> list[bytes]:
        packed: list[bytes] = self._packer.pack(*arguments)
        return packed
