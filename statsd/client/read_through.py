"""Reading any statistic from inside a web request.

A hit returns the cached value. On a miss the value is computed, by the same statements and the same
function as in the daemon, and its job is enqueued, once in a few seconds for all web workers. A
Redis that cannot be reached is a miss. Only the daemon writes values.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import msgspec
import orjson
import redis
import redis.asyncio
import sqlalchemy as sa
from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError

import statsd.identity  # noqa: F401 - says so if the other `statsd` is here
from statsd import scripts
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
from statsd.calculators import Values, fetch_with
from statsd.client.cache_items import CacheItem, Source, crews_of, item_of, scoreboard_of
from statsd.client.live_crews import GARBLED, CrewsReading
from statsd.client.pages import Board, Part, ScoreboardPage, cut, read_part
from statsd.job import Job, Priority, enqueue_once_request
from statsd.switches import read_switch

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

log = logging.getLogger("statsd.client")

ENQUEUE_INTERVAL = 5.0  # seconds in which misses enqueue a job once
RAW = {NEVER_DECODE: True}  # options of a command whose reply is no text
SNAPSHOT = "REPEATABLE READ"  # all statements of a computed value see the same moment


class _Common:
    """The parts of a reader that await nothing: switches, requests and replies."""

    def __init__(self, *, enabled: bool | None, fallback: bool | None) -> None:
        self._enabled = (
            read_switch("BACKGROUND_STATS_ENABLED", default=True) if enabled is None else enabled
        )
        # Without a daemon nothing fills the cache.
        self._computes = not self._enabled or (
            read_switch("BACKGROUND_STATS_FALLBACK", default=True) if fallback is None else fallback
        )

    def parse(self, raw: Any, item: CacheItem) -> Any:
        """Return the value in a cached text; None, which is a miss, where there is no valid one.

        The log does not get the whole key, since it may contain a name.
        """
        if raw is None:
            return None
        try:
            value = orjson.loads(raw)
            if isinstance(value, type(item.empty())) and all(
                name in value for name in item.members
            ):
                return value
        except orjson.JSONDecodeError:
            pass
        log.warning("a cached value of %s is garbled and counts as missing", item.prefix)
        return None

    def live(self, reply: Any) -> ScoreboardPage | None:
        """Return the page in a reply of the script `boards/page`; None where there is no board."""
        try:
            return read_part(reply)
        except (msgspec.MsgspecError, ValueError, TypeError):
            self._garbled_board()
            return None

    def go_on(self, reading: CrewsReading, reply: Any) -> bool:
        """Give a reply to a reading of crews; say whether the state could be read."""
        try:
            reading.take(reply)
        except GARBLED:
            self._garbled_board()
            return False
        return True

    def crews(self, reading: CrewsReading, item: CacheItem) -> list[dict[str, Any]] | None:
        """Return what a reading has found; None, which is a miss, where there are no crews."""
        if reading.crews is not None:
            return reading.crews
        crews: list[dict[str, Any]] | None = self.parse(reading.array, item)
        return crews

    def _garbled_board(self) -> None:
        log.warning("a live board is garbled and counts as missing; its next rebuild mends it")

    def trouble(self, error: Exception) -> None:
        """Log that Redis failed, which is a miss."""
        log.warning("Redis did not serve a reader: %s", type(error).__name__)

    def request(self, job: Job) -> bytes:
        """Return the request of the script `jobs/enqueue_once`."""
        return scripts.encode(enqueue_once_request(job, Priority.MISSED, ENQUEUE_INTERVAL))


def _job_of(source: Source, ids: Iterable[int]) -> Job:
    job: Job = source.calculator.job.of(*ids)
    return job


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


class ReadThrough(_Common):
    """Reads through a `redis.Redis`; computes on connections of a SQLAlchemy engine.

    `enabled` and `fallback` default to the switches `BACKGROUND_STATS_ENABLED` and
    `BACKGROUND_STATS_FALLBACK`, which are read once, here. The caller decides who may see a dojo.
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
        self._execute: Callable[..., Any] = client.execute_command
        self._engine = engine
        self._enqueue_script = client.register_script(scripts.source("jobs/enqueue_once"))
        self._page_script = client.register_script(scripts.source("boards/page"))
        self._crews_script = client.register_script(scripts.source("boards/crews"))

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
        """Return a reader with a client of its own; close it with `close`.

        `url`, `options` and the timeouts are those of `Publisher.from_url`.
        """
        return cls(sync_client(url, options), engine, enabled=enabled, fallback=fallback)

    def get(self, job: Job) -> Any:
        """Return the value of any statistic that has one key for each job, such as `Belts()`.

        That is the cached value, else the computed one; without the fallback, or for a dojo or user
        that does not exist, it is the empty value. Raises TypeError for a job without a single key,
        and for ids that are no integers.
        """
        return self._value(item_of(job))

    def _part(self, part: Part) -> ScoreboardPage:
        """Return a part of a live board or, where there is none, of the array."""
        item = scoreboard_of(part.board)
        live, reachable = self._live(part)
        return cut(self._value(item, reachable=reachable), part) if live is None else live

    def _live(self, part: Part) -> tuple[ScoreboardPage | None, bool]:
        """Return a part of a live board, or None, and whether Redis answered."""
        if not self._enabled:
            return None, False
        try:
            return self.live(self._run(self._page_script, part.packed())), True
        except TROUBLE as error:
            self.trouble(error)
            return None, isinstance(error, redis.ResponseError)

    def _crews(self, board: Board) -> Any:
        """Return the crews of a board: the array or, where arrays are left out, from the state."""
        item = crews_of(board)
        if not self._enabled:
            return self._missed(item, reachable=False)
        reading = CrewsReading(board)
        try:
            while reading.request is not None:
                reply = self._run(self._crews_script, reading.request)
                if not self.go_on(reading, reply):
                    break
        except TROUBLE as error:
            self.trouble(error)
            return self._value(item, reachable=isinstance(error, redis.ResponseError))
        crews = self.crews(reading, item)
        return self._missed(item, reachable=True) if crews is None else crews

    def _run(self, script: Any, request: bytes) -> Any:
        """Return the reply of a script: bytes, even if the client decodes texts."""
        try:
            return self._execute("EVALSHA", script.sha, 0, request, **RAW)
        except NoScriptError:
            return self._execute("EVAL", script.script, 0, request, **RAW)

    def _value(self, item: CacheItem, *, reachable: bool = True) -> Any:
        """Return the cached value, else the computed one (and enqueue its job), else the empty one.

        `reachable` says whether Redis answered the last request.
        """
        value, reachable = self._cached(item) if reachable else (None, False)
        return self._missed(item, reachable=reachable) if value is None else value

    def _missed(self, item: CacheItem, *, reachable: bool) -> Any:
        """Return the value computed after a miss (and enqueue its job), else the empty one."""
        value = None
        if self._computes and item.source is not None:
            job = self._found(item.source)
            if job is not None:
                value = self._compute(item.source, job).get(item.key)
                if reachable:
                    self._enqueue(job)
        return item.empty() if value is None else value

    def _cached(self, item: CacheItem) -> tuple[Any, bool]:
        """Return the cached value, None on a miss, and whether Redis answered."""
        if not self._enabled:
            return None, False
        try:
            raw = self._client.get(item.key.encode(errors="replace"))
            return self.parse(raw, item), True
        except TROUBLE as error:
            self.trouble(error)
            return None, False

    def _found(self, source: Source) -> Job | None:
        """Return the job of the value; None where its dojo, module or user does not exist."""
        if source.find is None:
            return _job_of(source, ())
        with self._engine.connect() as connection:
            ids = connection.execute(source.find()).first()
        return None if ids is None else _job_of(source, ids)

    def _compute(self, source: Source, job: Job) -> Values:
        with self._engine.connect() as plain:
            connection = plain.execution_options(isolation_level=SNAPSHOT)
            values = source.calculator.compute(connection, [job], _now())
        return values.get(job, {})

    def _enqueue(self, job: Job) -> None:
        try:
            self._enqueue_script(args=[self.request(job)])
        except TROUBLE as error:
            self.trouble(error)
            if is_moved(error):  # only a write tells that the server is a replica by now
                forget_connections(self._client)

    def close(self) -> None:
        """Close the client's connections. Reading opens them again."""
        close(self._client)


class AsyncReadThrough(_Common):
    """`ReadThrough` for a `redis.asyncio.Redis` and an `AsyncEngine`."""

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
        self._execute: Callable[..., Awaitable[Any]] = client.execute_command
        self._engine = engine
        self._enqueue_script = client.register_script(scripts.source("jobs/enqueue_once"))
        self._page_script = client.register_script(scripts.source("boards/page"))
        self._crews_script = client.register_script(scripts.source("boards/crews"))

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
        """As `ReadThrough.from_url`; close it with `aclose`."""
        return cls(async_client(url, options), engine, enabled=enabled, fallback=fallback)

    async def get(self, job: Job) -> Any:
        """As `ReadThrough.get`."""
        return await self._value(item_of(job))

    async def _part(self, part: Part) -> ScoreboardPage:
        """As `ReadThrough._part`."""
        item = scoreboard_of(part.board)
        live, reachable = await self._live(part)
        return cut(await self._value(item, reachable=reachable), part) if live is None else live

    async def _live(self, part: Part) -> tuple[ScoreboardPage | None, bool]:
        """Return a part of a live board, or None, and whether Redis answered."""
        if not self._enabled:
            return None, False
        try:
            return self.live(await self._run(self._page_script, part.packed())), True
        except ASYNC_TROUBLE as error:
            self.trouble(error)
            return None, isinstance(error, redis.ResponseError)

    async def _crews(self, board: Board) -> Any:
        """As `ReadThrough._crews`."""
        item = crews_of(board)
        if not self._enabled:
            return await self._missed(item, reachable=False)
        reading = CrewsReading(board)
        try:
            while reading.request is not None:
                reply = await self._run(self._crews_script, reading.request)
                if not self.go_on(reading, reply):
                    break
        except ASYNC_TROUBLE as error:
            self.trouble(error)
            return await self._value(item, reachable=isinstance(error, redis.ResponseError))
        crews = self.crews(reading, item)
        return await self._missed(item, reachable=True) if crews is None else crews

    async def _run(self, script: Any, request: bytes) -> Any:
        """As `ReadThrough._run`."""
        try:
            return await self._execute("EVALSHA", script.sha, 0, request, **RAW)
        except NoScriptError:
            return await self._execute("EVAL", script.script, 0, request, **RAW)

    async def _value(self, item: CacheItem, *, reachable: bool = True) -> Any:
        """As `ReadThrough._value`."""
        value, reachable = (await self._cached(item)) if reachable else (None, False)
        return await self._missed(item, reachable=reachable) if value is None else value

    async def _missed(self, item: CacheItem, *, reachable: bool) -> Any:
        """As `ReadThrough._missed`."""
        value = None
        if self._computes and item.source is not None:
            job = await self._found(item.source)
            if job is not None:
                value = (await self._compute(item.source, job)).get(item.key)
                if reachable:
                    await self._enqueue(job)
        return item.empty() if value is None else value

    async def _cached(self, item: CacheItem) -> tuple[Any, bool]:
        """Return the cached value, None on a miss, and whether Redis answered."""
        if not self._enabled:
            return None, False
        try:
            raw = await self._client.get(item.key.encode(errors="replace"))
            return self.parse(raw, item), True
        except ASYNC_TROUBLE as error:
            self.trouble(error)
            return None, False

    async def _found(self, source: Source) -> Job | None:
        """As `ReadThrough._found`."""
        if source.find is None:
            return _job_of(source, ())
        async with self._engine.connect() as connection:
            ids = (await connection.execute(source.find())).first()
        return None if ids is None else _job_of(source, ids)

    async def _compute(self, source: Source, job: Job) -> Values:
        async with self._engine.connect() as plain:
            connection = await plain.execution_options(isolation_level=SNAPSHOT)
            values = await source.calculator.acompute(fetch_with(connection), [job], _now())
        return values.get(job, {})

    async def _enqueue(self, job: Job) -> None:
        try:
            await self._enqueue_script(args=[self.request(job)])
        except ASYNC_TROUBLE as error:
            self.trouble(error)
            if is_moved(error):
                await aforget_connections(self._client)

    async def aclose(self) -> None:
        """Close the client's connections. Reading opens them again."""
        await aclose(self._client)
