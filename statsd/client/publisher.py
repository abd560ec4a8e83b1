"""Publishing to the stream, from inside a web request.

Publishing never breaks a request and holds it up for no more than about a second: the clients
made by `from_url` wait half a second to connect and half a second for an answer, and do not try
again. What Redis did not take is logged and counted; the daemon's reconciler finds what was
missed. (The time that the operating system takes to resolve a host name is its own.)
"""

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any, Self

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

import statsd.identity  # noqa: F401 - says so if the other `statsd` is here
from statsd import keys
from statsd.errors import SettingsError
from statsd.events import Event, encode
from statsd.switches import read_switch

log = logging.getLogger("statsd.client")

DEFAULT_URL = "redis://cache:6379"
CONNECT_TIMEOUT = 0.5  # seconds
ANSWER_TIMEOUT = 0.5  # seconds
TOTAL_TIMEOUT = 1.0  # seconds for each 5,000 events; only asyncio can interrupt anywhere
TOTAL_EVENTS = 5_000

TROUBLE = (RedisError, OSError)
"""What a Redis that cannot be reached or does not answer raises; timeouts are among them."""

ASYNC_TROUBLE = (*TROUBLE, RuntimeError)
"""With asyncio too: uvloop raises RuntimeError when a connection that is lost is written to."""


def sync_client(url: str | None, options: dict[str, Any]) -> redis.Redis:
    """Return a client whose calls take a bounded time; it connects with the first.

    Without `url` it is `REDIS_URL`, else `redis://cache:6379`. `options`, of
    `redis.Redis.from_url`, win. Raises SettingsError where the URL is none.
    """
    try:
        return redis.Redis.from_url(_url(url), **_bounded(Retry(NoBackoff(), 0), options))
    except ValueError:
        raise _wrong_url() from None


def async_client(url: str | None, options: dict[str, Any]) -> redis.asyncio.Redis:
    """As `sync_client`, for asyncio."""
    settings = _bounded(AsyncRetry(NoBackoff(), 0), options)
    try:
        return redis.asyncio.Redis.from_url(_url(url), **settings)
    except ValueError:
        raise _wrong_url() from None


def _url(url: str | None) -> str:
    return url or os.environ.get("REDIS_URL") or DEFAULT_URL


def _bounded(retry: Retry | AsyncRetry, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "socket_timeout": ANSWER_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        # Clients try several times unless told, and each time may take the timeouts anew.
        "retry": retry,
        # With RESP3, redis-py 8 listens for maintenance of the server, and its asynchronous form
        # then takes a connection that the server has closed for one that can be used.
        "protocol": 2,
        **options,
    }


def _wrong_url() -> SettingsError:
    # Without the URL and without redis-py's words: either may show a password.
    return SettingsError("REDIS_URL is no Redis URL: it looks like redis://host:6379")


class _Counts:
    """What both publishers know: the switch and the two counts."""

    def __init__(self, *, enabled: bool | None) -> None:
        self.enabled = (
            read_switch("BACKGROUND_STATS_ENABLED", default=True) if enabled is None else enabled
        )
        self.published = 0
        self.failed = 0

    def entries(self, events: Sequence[Event]) -> list[dict[Any, Any]]:
        """Return the stream entries of `events`; none when publishing is switched off."""
        for event in events:
            if not isinstance(event, Event):
                raise TypeError(
                    f"an event of statsd.events is published, no {type(event).__name__}"
                )
        return [{"data": encode(event)} for event in events] if self.enabled else []

    def settle(self, events: Sequence[Event], replies: Sequence[object]) -> int:
        """Count what Redis said to each event; return how many it took."""
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
        taken = len(replies) - len(refused)
        self.published += taken
        return taken

    def lose(self, events: Sequence[Event], error: Exception) -> int:
        """Count and log events that were not published; return 0, how many were."""
        self.failed += len(events)
        types = ", ".join(sorted({event.type for event in events}))
        # Types and a count only: payloads and an error's text may tell on users or passwords.
        log.warning("%d events not published (%s): %s", len(events), types, type(error).__name__)
        return 0


class Publisher(_Counts):
    """Publishes events through a `redis.Redis`, whose timeouts bound what a call may take.

    `enabled` defaults to the switch `BACKGROUND_STATS_ENABLED`, read once, here. `published`
    and `failed` count events since the start; an event whose answer did not come is counted as
    failed, though Redis may have it.
    """

    def __init__(self, client: redis.Redis, *, enabled: bool | None = None) -> None:
        super().__init__(enabled=enabled)
        self._client = client

    @classmethod
    def from_url(
        cls, url: str | None = None, *, enabled: bool | None = None, **options: Any
    ) -> Self:
        """Make a publisher with a client of its own, to be closed with `close`.

        Without `url` it is `REDIS_URL`, else `redis://cache:6379`. `options` go to
        `redis.Redis.from_url`. Nothing is connected before the first event. Raises
        SettingsError where the URL is none or the switch is neither on nor off.
        """
        return cls(sync_client(url, options), enabled=enabled)

    def publish(self, *events: Event) -> int:
        """Publish all events in one round trip; return how many Redis took.

        Never raises for trouble with Redis: that is logged on `statsd.client` and counted in
        `failed`. Raises TypeError for what is no event.
        """
        entries = self.entries(events)
        if not entries:
            return 0
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for entry in entries:
                    pipeline.xadd(keys.STREAM, entry)
                replies = pipeline.execute(raise_on_error=False)
        except TROUBLE as error:
            return self.lose(events, error)
        return self.settle(events, replies)

    def close(self) -> None:
        """Close the client's connections; publishing again opens them again."""
        self._client.close()


class AsyncPublisher(_Counts):
    """`Publisher` for a `redis.asyncio.Redis`; it belongs to one event loop."""

    def __init__(self, client: redis.asyncio.Redis, *, enabled: bool | None = None) -> None:
        super().__init__(enabled=enabled)
        self._client = client

    @classmethod
    def from_url(
        cls, url: str | None = None, *, enabled: bool | None = None, **options: Any
    ) -> Self:
        """As `Publisher.from_url`; to be closed with `aclose`."""
        return cls(async_client(url, options), enabled=enabled)

    async def publish(self, *events: Event) -> int:
        """As `Publisher.publish`, within a second in all (for each 5,000 events)."""
        entries = self.entries(events)
        if not entries:
            return 0
        try:
            async with (
                asyncio.timeout(TOTAL_TIMEOUT * (1 + len(events) // TOTAL_EVENTS)),
                self._client.pipeline(transaction=False) as pipeline,
            ):
                for entry in entries:
                    pipeline.xadd(keys.STREAM, entry)
                replies = await pipeline.execute(raise_on_error=False)
        except ASYNC_TROUBLE as error:
            return self.lose(events, error)
        return self.settle(events, replies)

    async def aclose(self) -> None:
        """Close the client's connections; publishing again opens them again."""
        await self._client.aclose()
