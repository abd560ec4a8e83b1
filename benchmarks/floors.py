"""Floors: the same work with bare clients and statements, measured in the same run.

The statements in `sql/` read all rows that a cold start or a kind of statistic needs, in as few
passes as possible. They may use as much memory and as many parallel workers as make them faster.
"""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import asyncpg
import orjson
import redis
import uvloop
from redis.asyncio import Redis

from statsd import keys
from statsd.dev import embedded

SQL = Path(__file__).parent / "sql"
OWN_PASSES = ("dojo_stats", "activity", "belts", "emojis")
"""The kinds of statistics with statements of their own; others follow from the relation."""
SETTINGS = "SET jit = off; SET work_mem = '64MB'"
BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
STREAM, GROUP = "floor:events", "floor"
READ = 1000  # entries at once
PAGE = 200  # values that are held at once
PART = 1_000_000  # bytes in one pipeline, approximately


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


async def _copied(url: str, statement: str) -> None:
    async def sink(_data: bytes) -> None:
        pass

    connection = await asyncpg.connect(url)
    try:
        await connection.execute(SETTINGS)
        await connection.copy_from_query(statement, output=sink, format="binary")
    finally:
        await connection.close()


def read_relation(servers: embedded.EmbeddedServers) -> float:
    """Transfer the relation over all dojos once; return the seconds."""
    [statement] = statements("relation")
    began = perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        # With COPY, which is faster here than fetching rows.
        runner.run(_copied(servers.database_url, statement.strip()))
    return perf_counter() - began


def own_pass(servers: embedded.EmbeddedServers, kind: str) -> float:
    """Make the own pass of a kind of statistic; return the seconds."""
    began = perf_counter()
    rows_of(servers, kind)
    return perf_counter() - began


def write(servers: embedded.EmbeddedServers, names: Sequence[str]) -> float:
    """Write the values of these keys once more, under other keys; return the seconds for that."""
    seconds = 0.0
    with redis.Redis.from_url(servers.redis_url) as cache:
        remaining = iter(names)
        while page := [*islice(remaining, PAGE)]:
            values: Any = cache.mget(page)
            began = perf_counter()
            pipeline = cache.pipeline(transaction=False)
            size = 0
            for key, value in zip(page, values, strict=True):
                pipeline.set(f"floor:{key}", value or b"")
                pipeline.set(f"floor:{keys.updated(key)}", "1700000000.000000")
                size += len(value or b"")
                if size > PART:
                    pipeline.execute()
                    size = 0
            pipeline.execute()
            seconds += perf_counter() - began
    return seconds


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
