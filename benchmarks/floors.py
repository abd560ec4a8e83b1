"""Floors: the same work with bare clients and statements, measured in the same run.

The statements in `sql/` read all rows that a kind of statistic needs, in as few passes as
possible. They may use as much memory and as many parallel workers as make them faster.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import asyncpg
import orjson
import redis
import uvloop
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators.catalog import COLD_START
from statsd.dev import embedded

SQL = Path(__file__).parent / "sql"
KINDS = tuple(calculator.job.kind for calculator in COLD_START)
SETTINGS = "SET jit = off; SET work_mem = '64MB'"
BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
STREAM, GROUP = "floor:events", "floor"
READ = 1000  # entries at once
PART = 1_000_000  # bytes in one pipeline, approximately

Values = Sequence[tuple[bytes, bytes]]


class PassTime(NamedTuple):
    """The duration of one bare pass, in seconds."""

    read: float
    write: float


def statements(name: str) -> list[str]:
    """Return the statements of a file in `sql/`: the floor of a kind, or an index."""
    return [each for each in (SQL / f"{name}.sql").read_text().split(";") if each.strip()]


def rows_of(servers: embedded.EmbeddedServers, kind: str) -> list[list[asyncpg.Record]]:
    """Return the rows of each statement of a kind."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_rows_of(servers, kind))


async def _rows_of(servers: embedded.EmbeddedServers, kind: str) -> list[list[asyncpg.Record]]:
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute(SETTINGS)
        await connection.execute(BEGIN)
        return [await connection.fetch(each) for each in statements(kind)]
    finally:
        await connection.close()


def values_by_kind(cache: "redis.Redis") -> dict[str, list[tuple[bytes, bytes]]]:
    """Return all cached values, by the kind of the job that wrote them."""
    key_owners: Any = cache.hgetall(keys.KEY_OWNERS)
    found = defaultdict(list)
    for key, owner in key_owners.items():
        raw: Any = cache.get(key)
        found[owner.decode().partition(":")[0]].append((key, raw))
    return found


def cold(servers: embedded.EmbeddedServers, values: Mapping[str, Values]) -> dict[str, PassTime]:
    """Make one bare pass for each kind: read with asyncpg, write with pipelines."""
    found = {}
    with redis.Redis.from_url(servers.redis_url) as cache:
        for kind in KINDS:
            began = perf_counter()
            rows_of(servers, kind)
            read = perf_counter() - began
            found[kind] = PassTime(read, _write(cache, values.get(kind, ())))
    return found


def _write(cache: "redis.Redis", values: Values) -> float:
    began = perf_counter()
    pipeline = cache.pipeline(transaction=False)
    size = 0
    for key, value in values:
        pipeline.set(b"floor:" + key, value)
        pipeline.set(b"floor:" + key + b":updated", "1700000000.000000")
        size += len(value)
        if size > PART:
            pipeline.execute()
            size = 0
    pipeline.execute()
    return perf_counter() - began


def stream_rate(servers: embedded.EmbeddedServers, data: Iterable[bytes]) -> float:
    """Return the events a second of a bare loop that reads, decodes and acknowledges."""
    with redis.Redis.from_url(servers.redis_url) as cache:
        with cache.pipeline(transaction=False) as pipeline:
            for each in data:
                pipeline.xadd(STREAM, {"data": each})
            count = len(pipeline.execute())
        cache.xgroup_create(STREAM, GROUP, "0")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            seconds = runner.run(_drain(servers.redis_url))
        cache.delete(STREAM)
    return count / seconds


async def _drain(url: str) -> float:
    cache: Any
    async with Redis.from_url(url) as cache:
        commands = await cache.command_list(module=None)
        has_ackdel = b"xackdel" in commands
        began = perf_counter()
        while True:
            found: Any = await cache.xreadgroup(GROUP, "floor", {STREAM: ">"}, READ)
            entries = found[0][1] if found else []
            if not entries:
                return perf_counter() - began
            for _, fields in entries:
                orjson.loads(fields[b"data"])
            ids = [entry for entry, _ in entries]
            if has_ackdel:
                await cache.execute_command("XACKDEL", STREAM, GROUP, "IDS", len(ids), *ids)
            else:
                async with cache.pipeline(transaction=True) as pipeline:
                    await pipeline.xack(STREAM, GROUP, *ids).xdel(STREAM, *ids).execute()


class RoundTrips(NamedTuple):
    """The number of round trips to each server."""

    of_redis: int
    of_postgresql: int


class RoundTripTimer:
    """Makes bare round trips, one after another, and measures them."""

    def __init__(self, servers: embedded.EmbeddedServers) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._cache: Any = Redis.from_url(servers.redis_url)
        self._connection = self._runner.run(asyncpg.connect(servers.database_url))

    def measure(self, trips: RoundTrips) -> float:
        """Make the round trips; return their duration in seconds."""
        return self._runner.run(self._measure(trips))

    async def _measure(self, trips: RoundTrips) -> float:
        began = perf_counter()
        for _ in range(trips.of_redis):
            await self._cache.ping()
        for _ in range(trips.of_postgresql):
            await self._connection.fetch("SELECT 1")
        return perf_counter() - began

    def close(self) -> None:
        """Close the connections."""
        self._runner.run(self._connection.close())
        self._runner.run(self._cache.aclose())
        self._runner.close()
