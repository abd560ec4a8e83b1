"""The consumer's name: held by one living daemon at a time, as a sign of life in Redis.

Two daemons may be given one name: a copied configuration, a container's host name that was
fixed. Each would give back the other's leases at its start, and read the other's entries as
its own. So a name is held, and who finds it held takes the next number.
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

SIGN_INTERVAL = 1.0  # seconds between two signs of life
SIGN_LASTS = 15.0  # seconds until a name that is not held on to is free
DOUBT = 3.0  # seconds in which a living holder gives a sign
LOOK_INTERVAL = 0.1  # seconds between two looks at another's sign


class NameLostError(StatsdError):
    """Another daemon holds this one's name: this one was silent too long. Start it again."""


class ConsumerName:
    """The name of one daemon, as soon as it was taken."""

    def __init__(self, redis: Redis, wanted: str) -> None:
        """`wanted` is the name where nobody holds it; else a number is added."""
        self._redis = redis
        self._script = redis.register_script(scripts.source("hold"))
        self._wanted = wanted
        self._holder = secrets.token_hex(8)
        self.text = wanted
        """The name that is held, or would be."""

    async def acquire(self) -> None:
        """Hold the name wanted, or the first free one of those with a number after it.

        A holder that gives no sign for a few seconds has died, and the name is taken over, so
        that a daemon that starts again is at once the one who finishes what it had begun.
        """
        for number in count(1):
            self.text = self._wanted if number == 1 else f"{self._wanted}-{number}"
            if await self._hold() or await self._outlive():
                break
        if self.text != self._wanted:
            log.warning(
                "the name is another daemon's; set STATSD_CONSUMER_SUFFIX to tell them apart",
                extra={"wanted": self._wanted, "consumer": self.text},
            )

    async def _hold(self, before: str | None = None, seconds: float = SIGN_LASTS) -> bool:
        request = {
            "key": keys.heartbeat(self.text),
            "holder": self._holder,
            "milliseconds": int(seconds * 1000),
        } | ({} if before is None else {"before": before})
        return bool(await self._script(args=[scripts.encode(request)]))

    async def _outlive(self) -> bool:
        """Watch another's sign; take its place, if it is not renewed for a while."""
        key = keys.heartbeat(self.text)
        holder: Any = await self._redis.get(key)
        left = await self._redis.pttl(key)
        deadline = monotonic() + DOUBT
        while monotonic() < deadline:
            await asyncio.sleep(LOOK_INTERVAL)
            before, left = left, await self._redis.pttl(key)
            if left > before:
                return False  # it was renewed: it lives
            if left < 0:
                break  # it was let go
        return await self._hold(holder.decode() if holder else None)

    async def step(self) -> None:
        """Give a sign of life. Raises NameLostError where another holds the name by now."""
        if not await self._hold():
            raise NameLostError
        await asyncio.sleep(SIGN_INTERVAL)

    async def recover(self) -> None:
        """Nothing is to be put right."""

    async def leave(self) -> None:
        """Let the name go, for whoever comes next."""
        await self._hold(seconds=0)
