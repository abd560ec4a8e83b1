"""The setting STATSD_EXPORTS in Redis: whether the arrays of scoreboards and crews are kept.

A daemon publishes its setting when it starts; that of the last one is in force. Everything else,
readers included, takes it from Redis. It is a field of the clock: if Redis loses it, the clock is
lost too, and the reconcile that follows publishes it again.
"""

import logging
from typing import Any

import msgspec
from redis.asyncio import Redis

from statsd import keys, scripts

log = logging.getLogger(__name__)

SOURCES = {"index": 50, "owners": 500}
"""Where keys are looked up to delete them, and how many fields are examined at once, about."""


async def has_exports(redis: Redis) -> bool:
    """Say whether the arrays of scoreboards and crews are kept."""
    published: Any = await redis.hget(keys.CLOCK, "exports")
    return bool(published != b"0")


class ExportsSwitch:
    """Publishes one daemon's setting."""

    def __init__(self, redis: Redis, *, exports: bool) -> None:
        self._exports = exports
        self._set = redis.register_script(scripts.source("boards/set_exports"))
        self._delete = redis.register_script(scripts.source("boards/delete_boards"))

    async def publish(self, *, only_if_absent: bool = False) -> None:
        """Put the setting in force, or leave the one that is, with `only_if_absent`.

        When the arrays are left out, those that are there are deleted: an earlier deletion may
        have been interrupted. When they are kept from now on, a reconcile is enqueued.
        """
        request = {"exports": str(int(self._exports)), "only_if_absent": only_if_absent}
        raw: bytes = await self._set(args=[scripts.encode(request)])
        reply = msgspec.msgpack.decode(raw, type=_Set)
        if reply.before not in {None, reply.now} or reply.now != request["exports"]:
            log.warning(
                "STATSD_EXPORTS differs from what was in force; set it alike for all daemons",
                extra={"before": reply.before, "in_force": reply.now},
            )
        if reply.now == "0":
            for source, count in SOURCES.items():
                await self._delete_found(source, count)

    async def _delete_found(self, source: str, count: int) -> None:
        cursor = b"0"
        while True:
            request = {"source": source, "cursor": cursor.decode(), "count": count}
            cursor = await self._delete(args=[scripts.encode(request)])
            if cursor == b"0":
                return


class _Set(msgspec.Struct):
    """The reply of the script `boards/set_exports`."""

    now: str
    before: str | None = None
