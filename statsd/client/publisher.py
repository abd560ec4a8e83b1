"""Publishing to the stream, from inside a web request.

Publishing never breaks a request and delays it by about a second at most. The clients made by
`from_url` wait half a second to connect and half a second for an answer. (The time in which the
operating system resolves a host name comes on top.) Only events that a replica refused are sent
again, since after a failover the URL leads to another server. Events that Redis did not take are
logged and counted. The daemon finds solves without an event within seconds, by its search
for missed solves, and other changes later, by the drift audit.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Self

import redis
import redis.asyncio

import statsd.identity  # noqa: F401 - says so if the other `statsd` is here
from statsd import keys
from statsd.addresses.redis_clients import (
    ASYNC_TROUBLE,
    TROUBLE,
    aclose,
    aforget_connections,
    async_client,
    close,
    forget_connections,
    sync_client,
)
from statsd.addresses.redis_errors import is_moved
from statsd.events import Event, encode
from statsd.switches import read_switch

log = logging.getLogger("statsd.client")

TOTAL_TIMEOUT = 1.0  # seconds for each 5,000 events; only asyncio can interrupt anywhere
TOTAL_EVENTS = 5_000
MOST_RESENDS = 3


class _Counts:
    """The switch and the two counts of a publisher."""

    def __init__(self, *, enabled: bool | None) -> None:
        self.enabled = (
            read_switch("BACKGROUND_STATS_ENABLED", default=True) if enabled is None else enabled
        )
        self.published = 0
        self.failed = 0

    def entries(self, events: Sequence[Event]) -> list[dict[Any, Any]]:
        """Return the stream entries of `events`; none if publishing is switched off."""
        for event in events:
            if not isinstance(event, Event):
                raise TypeError(
                    f"an event of statsd.events is published, no {type(event).__name__}"
                )
        return [{"data": encode(event)} for event in events] if self.enabled else []

    def count(self, events: Sequence[Event], replies: Sequence[object]) -> int:
        """Count the events by the replies of Redis; return how many it took."""
        refused = [reply for reply in replies if isinstance(reply, Exception)]
        if refused:
            self.lose(
                [
                    event
                    for event, reply in zip(events, replies, strict=True)
                    if isinstance(reply, Exception)
                ],
                refused[0],
            )
        accepted = len(replies) - len(refused)
        self.published += accepted
        return accepted

    def lose(self, events: Sequence[Event], error: Exception) -> None:
        """Count and log events that were not published."""
        self.failed += len(events)
        types = ", ".join(sorted({event.type for event in events}))
        # Only types and a count: payloads and error texts may contain names or passwords.
        log.warning("%d events not published (%s): %s", len(events), types, type(error).__name__)


class Publisher(_Counts):
    """Publishes events through a `redis.Redis`, whose timeouts bound the duration of a call.

    `enabled` defaults to the switch `BACKGROUND_STATS_ENABLED`, which is read once, here.
    `published` and `failed` count events since the start. An event without a reply counts as
    failed, though Redis may have it.
    """

    def __init__(self, client: redis.Redis, *, enabled: bool | None = None) -> None:
        super().__init__(enabled=enabled)
        self._client = client

    @classmethod
    def from_url(
        cls, url: str | None = None, *, enabled: bool | None = None, **options: Any
    ) -> Self:
        """Return a publisher with a client of its own; close it with `close`.

        `url` defaults to `REDIS_URL`, and that to `redis://cache:6379`. `options` go to
        `redis.Redis`. It connects with the first event. Raises SettingsError for an invalid `url`.
        Invalid variables do not stop an application: they are logged as errors.
        """
        return cls(sync_client(url, options), enabled=enabled)

    def publish(self, *events: Event) -> int:
        """Publish all events in one round trip; return how many Redis took.

        Errors of Redis are not raised, but logged on `statsd.client` and counted in `failed`.
        Raises TypeError for arguments that are no events.
        """
        entries = self.entries(events)
        if not entries:
            return 0
        replies = self._sent(entries)
        # After a failover the URL leads to another server, but old connections do not. Another
        # thread may give one back meanwhile.
        for _ in range(MOST_RESENDS):
            refused = [i for i, reply in enumerate(replies) if is_moved(reply)]
            if not refused:
                break
            forget_connections(self._client)
            for i, reply in zip(refused, self._sent([entries[i] for i in refused]), strict=True):
                replies[i] = reply
        return self.count(events, replies)

    def _sent(self, entries: Sequence[dict[Any, Any]]) -> list[Any]:
        """Send entries; return the reply to each, or the error."""
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for entry in entries:
                    pipeline.xadd(keys.STREAM, entry)
                return pipeline.execute(raise_on_error=False)
        except TROUBLE as error:
            return [error] * len(entries)

    def close(self) -> None:
        """Close the client's connections. Publishing opens them again."""
        close(self._client)


class AsyncPublisher(_Counts):
    """`Publisher` for a `redis.asyncio.Redis`; it belongs to one event loop."""

    def __init__(self, client: redis.asyncio.Redis, *, enabled: bool | None = None) -> None:
        super().__init__(enabled=enabled)
        self._client = client

    @classmethod
    def from_url(
        cls, url: str | None = None, *, enabled: bool | None = None, **options: Any
    ) -> Self:
        """As `Publisher.from_url`; close it with `aclose`."""
        return cls(async_client(url, options), enabled=enabled)

    async def publish(self, *events: Event) -> int:
        """As `Publisher.publish`, within one second (for each 5,000 events).

        After a failover, refused events are sent up to three times more, a second each at most.
        """
        entries = self.entries(events)
        if not entries:
            return 0
        replies = await self._sent(entries)
        for _ in range(MOST_RESENDS):
            refused = [i for i, reply in enumerate(replies) if is_moved(reply)]
            if not refused:
                break
            await aforget_connections(self._client)
            again = await self._sent([entries[i] for i in refused])
            for i, reply in zip(refused, again, strict=True):
                replies[i] = reply
        return self.count(events, replies)

    async def _sent(self, entries: Sequence[dict[Any, Any]]) -> list[Any]:
        """As `Publisher._sent`."""
        try:
            async with (
                asyncio.timeout(TOTAL_TIMEOUT * (1 + len(entries) // TOTAL_EVENTS)),
                self._client.pipeline(transaction=False) as pipeline,
            ):
                for entry in entries:
                    pipeline.xadd(keys.STREAM, entry)
                return await pipeline.execute(raise_on_error=False)
        except ASYNC_TROUBLE as error:
            return [error] * len(entries)

    async def aclose(self) -> None:
        """Close the client's connections. Publishing opens them again."""
        await aclose(self._client)
