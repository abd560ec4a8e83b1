"""The consumer's name: one living daemon holds it, by a heartbeat in Redis.

Two daemons may be configured with one name: by a copied configuration, or a fixed host name. Each
would release the other's leases at its start, and read the other's entries as its own. Therefore a
daemon whose name is in use adds the next free number.
"""

import asyncio
import logging
import secrets
from itertools import count
from time import monotonic
from typing import Any

from redis.asyncio import Redis

from statsd import keys, scripts
from statsd.errors import StatsdError

log = logging.getLogger(__name__)

HEARTBEAT_INTERVAL = 1.0  # seconds
NAME_LASTS = 15.0  # seconds after the last heartbeat, until the name is free
WATCH_TIME = 3.0  # seconds within which a living holder sends a heartbeat
POLL_INTERVAL = 0.1  # seconds


class NameLostError(StatsdError):
    """Another daemon took over the name, since this one sent no heartbeat. Start this one again."""


class ConsumerName:
    """The name of one daemon."""

    def __init__(self, redis: Redis, wanted: str) -> None:
        """`wanted` is the name, unless another daemon holds it; then a number is added."""
        self._redis = redis
        self._script = redis.register_script(scripts.source("stream/hold_name"))
        self._wanted = wanted
        self._holder = secrets.token_hex(8)
        self.text = wanted
        """The name that this daemon holds, or tries to get."""

    async def acquire(self) -> None:
        """Hold the wanted name, or the first free one with a number after it.

        A holder without a heartbeat for a few seconds is dead, and its name is taken over. So a
        daemon that starts again gets its former name, and finishes its pending entries at once.
        """
        for number in count(1):
            self.text = self._wanted if number == 1 else f"{self._wanted}-{number}"
            if await self._hold() or await self._replace_dead_holder():
                break
        if self.text != self._wanted:
            log.warning(
                "another daemon has this name; set STATSD_CONSUMER_SUFFIX",
                extra={"wanted": self._wanted, "consumer": self.text},
            )

    async def _hold(self, before: str | None = None, seconds: float = NAME_LASTS) -> bool:
        request = {
            "key": keys.heartbeat(self.text),
            "holder": self._holder,
            "milliseconds": int(seconds * 1000),
        } | ({} if before is None else {"before": before})
        return bool(await self._script(args=[scripts.encode(request)]))

    async def _replace_dead_holder(self) -> bool:
        """Watch the holder's heartbeat; take over the name if it is not renewed for a while."""
        key = keys.heartbeat(self.text)
        holder: Any = await self._redis.get(key)
        left = await self._redis.pttl(key)
        deadline = monotonic() + WATCH_TIME
        while monotonic() < deadline:
            await asyncio.sleep(POLL_INTERVAL)
            before, left = left, await self._redis.pttl(key)
            if left > before:
                return False  # renewed: the holder lives
            if left < 0:
                break  # released
        return await self._hold(holder.decode() if holder else None)

    async def step(self) -> None:
        """Send a heartbeat. Raises NameLostError where another daemon has taken over the name."""
        if not await self._hold():
            raise NameLostError
        await asyncio.sleep(HEARTBEAT_INTERVAL)

    async def recover(self) -> None:
        """Nothing has to be restored."""

    async def leave(self) -> None:
        """Release the name."""
        await self._hold(seconds=0)
