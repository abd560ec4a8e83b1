"""How statistics are read from inside a web request, whichever they are.

A hit is the cached value. On a miss the value is computed, from the very statements and shaping
of the daemon, and its key is marked so that the daemon writes it: once for all web workers in a
few seconds. A Redis that cannot be reached is a miss. Only the daemon writes values.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import orjson
import redis
import redis.asyncio
import sqlalchemy as sa

import statsd.identity  # noqa: F401 - says so if the other `statsd` is here
from statsd import scripts
from statsd.calculators import Values, through
from statsd.client.cache_items import Source, Wanted, scoreboard_of
from statsd.client.pages import Part, ScoreboardPage, cut, read_part
from statsd.client.publisher import ASYNC_TROUBLE, TROUBLE, async_client, sync_client
from statsd.job import Job, Priority, enqueue_once_request
from statsd.switches import read_switch

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

log = logging.getLogger("statsd.client")

ASK_INTERVAL = 5.0  # seconds in which a missed key is asked for once
SNAPSHOT = "REPEATABLE READ"  # all statements of a computed value see one moment


class _Common:
    """What both forms know: the switches, and how values are found without the cache."""

    def __init__(self, *, enabled: bool | None, fallback: bool | None) -> None:
        self._enabled = (
            read_switch("BACKGROUND_STATS_ENABLED", default=True) if enabled is None else enabled
        )
        # With no daemon to fill the cache, computing is all there is.
        self._computes = not self._enabled or (
            read_switch("BACKGROUND_STATS_FALLBACK", default=True) if fallback is None else fallback
        )

    def parse(self, raw: Any, wanted: Wanted) -> Any:
        """Return the value in a cached text; None, a miss, where there is none.

        The key of one that is none has a name in it, which is nothing for a log.
        """
        if raw is None:
            return None
        try:
            value = orjson.loads(raw)
            if isinstance(value, type(wanted.empty())) and all(
                name in value for name in wanted.members
            ):
                return value
        except orjson.JSONDecodeError:
            pass
        log.warning(
            "a cached value of %s is garbled and counts as missing",
            wanted.sort,
        )
        return None

    def live(self, reply: Any) -> ScoreboardPage | None:
        """Return the part of a live board that a script read; None where there is none."""
        try:
            return read_part(reply)
        except (ValueError, TypeError):
            log.warning("a live board is garbled and counts as missing; its next rebuild mends it")
            return None

    def trouble(self, error: Exception) -> None:
        """Say that Redis did not serve: that is a miss."""
        log.warning("Redis did not serve a reader: %s", type(error).__name__)

    def request(self, job: Job) -> bytes:
        """Return what the script `ask` takes."""
        return scripts.encode(enqueue_once_request(job, Priority.MISSED, ASK_INTERVAL))


def _named(source: Source, numbers: Iterable[int]) -> Job:
    job: Job = source.calculator.job.of(*numbers)
    return job


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


class Reading(_Common):
    """Reads through a `redis.Redis`; computes on connections of a SQLAlchemy engine.

    The switches `BACKGROUND_STATS_ENABLED` and `BACKGROUND_STATS_FALLBACK` are read once, here,
    unless `enabled` and `fallback` say otherwise. Who may see a dojo is the caller's business.
    """

    def __init__(
        self,
        client: redis.Redis,
        engine: "sa.engine.Engine",
        *,
        enabled: bool | None = None,
        fallback: bool | None = None,
    ) -> None:
        super().__init__(enabled=enabled, fallback=fallback)
        self._client = client
        self._engine = engine
        self._ask_script = client.register_script(scripts.source("ask"))
        self._page_script = client.register_script(scripts.source("page"))

    @classmethod
    def from_url(
        cls,
        engine: "sa.engine.Engine",
        url: str | None = None,
        *,
        enabled: bool | None = None,
        fallback: bool | None = None,
        **options: Any,
    ) -> Self:
        """Make a reader with a client of its own, to be closed with `close`.

        `url` and `options` are those of `Publisher.from_url`, and so are the timeouts.
        """
        return cls(sync_client(url, options), engine, enabled=enabled, fallback=fallback)

    def _part(self, part: Part) -> ScoreboardPage:
        """Return a part of a live board or, where there is none, of the array."""
        wanted = scoreboard_of(part.board)
        live, served = self._live(part)
        return cut(self._value(wanted, served=served), part) if live is None else live

    def _live(self, part: Part) -> tuple[ScoreboardPage | None, bool]:
        """Return a part of a live board, None where there is none, and whether Redis served."""
        if not self._enabled:
            return None, False
        try:
            return self.live(self._page_script(args=[part.packed()])), True
        except TROUBLE as error:
            self.trouble(error)
            return None, isinstance(error, redis.ResponseError)

    def _value(self, wanted: Wanted, *, served: bool = True) -> Any:
        """Return what is cached, else computed (and asked for), else empty.

        `served` says whether Redis is there, as far as is known.
        """
        value, served = self._cached(wanted) if served else (None, False)
        if value is None and self._computes and wanted.source is not None:
            job = self._found(wanted.source)
            if job is not None:
                value = self._compute(wanted.source, job).get(wanted.key)
                if served:
                    self._ask(job)
        return wanted.empty() if value is None else value

    def _cached(self, wanted: Wanted) -> tuple[Any, bool]:
        """Return the cached value, None on a miss, and whether Redis served."""
        if not self._enabled:
            return None, False
        try:
            raw = self._client.get(wanted.key.encode(errors="replace"))
            return self.parse(raw, wanted), True
        except TROUBLE as error:
            self.trouble(error)
            return None, False

    def _found(self, source: Source) -> Job | None:
        """Return the refresh that has the value; None where what has it does not exist."""
        if source.find is None:
            return _named(source, ())
        with self._engine.connect() as connection:
            numbers = connection.execute(source.find()).first()
        return None if numbers is None else _named(source, numbers)

    def _compute(self, source: Source, job: Job) -> Values:
        with self._engine.connect() as plain:
            connection = plain.execution_options(isolation_level=SNAPSHOT)
            values = source.calculator.compute(connection, [job], _now())
        return values.get(job, {})

    def _ask(self, job: Job) -> None:
        try:
            self._ask_script(args=[self.request(job)])
        except TROUBLE as error:
            self.trouble(error)

    def close(self) -> None:
        """Close the client's connections; reading again opens them again."""
        self._client.close()


class AsyncReading(_Common):
    """`Reading` for a `redis.asyncio.Redis` and an `AsyncEngine`."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        engine: "AsyncEngine",
        *,
        enabled: bool | None = None,
        fallback: bool | None = None,
    ) -> None:
        super().__init__(enabled=enabled, fallback=fallback)
        self._client = client
        self._engine = engine
        self._ask_script = client.register_script(scripts.source("ask"))
        self._page_script = client.register_script(scripts.source("page"))

    @classmethod
    def from_url(
        cls,
        engine: "AsyncEngine",
        url: str | None = None,
        *,
        enabled: bool | None = None,
        fallback: bool | None = None,
        **options: Any,
    ) -> Self:
        """As `Reading.from_url`; to be closed with `aclose`."""
        return cls(async_client(url, options), engine, enabled=enabled, fallback=fallback)

    async def _part(self, part: Part) -> ScoreboardPage:
        """As `Reading._part`."""
        wanted = scoreboard_of(part.board)
        live, served = await self._live(part)
        return cut(await self._value(wanted, served=served), part) if live is None else live

    async def _live(self, part: Part) -> tuple[ScoreboardPage | None, bool]:
        """Return a part of a live board, None where there is none, and whether Redis served."""
        if not self._enabled:
            return None, False
        try:
            return self.live(await self._page_script(args=[part.packed()])), True
        except ASYNC_TROUBLE as error:
            self.trouble(error)
            return None, isinstance(error, redis.ResponseError)

    async def _value(self, wanted: Wanted, *, served: bool = True) -> Any:
        """As `Reading._value`."""
        value, served = (await self._cached(wanted)) if served else (None, False)
        if value is None and self._computes and wanted.source is not None:
            job = await self._found(wanted.source)
            if job is not None:
                value = (await self._compute(wanted.source, job)).get(wanted.key)
                if served:
                    await self._ask(job)
        return wanted.empty() if value is None else value

    async def _cached(self, wanted: Wanted) -> tuple[Any, bool]:
        """Return the cached value, None on a miss, and whether Redis served."""
        if not self._enabled:
            return None, False
        try:
            raw = await self._client.get(wanted.key.encode(errors="replace"))
            return self.parse(raw, wanted), True
        except ASYNC_TROUBLE as error:
            self.trouble(error)
            return None, False

    async def _found(self, source: Source) -> Job | None:
        """As `Reading._found`."""
        if source.find is None:
            return _named(source, ())
        async with self._engine.connect() as connection:
            numbers = (await connection.execute(source.find())).first()
        return None if numbers is None else _named(source, numbers)

    async def _compute(self, source: Source, job: Job) -> Values:
        async with self._engine.connect() as plain:
            connection = await plain.execution_options(isolation_level=SNAPSHOT)
            values = await source.calculator.acompute(through(connection), [job], _now())
        return values.get(job, {})

    async def _ask(self, job: Job) -> None:
        try:
            await self._ask_script(args=[self.request(job)])
        except ASYNC_TROUBLE as error:
            self.trouble(error)

    async def aclose(self) -> None:
        """Close the client's connections; reading again opens them again."""
        await self._client.aclose()
