"""The floor of a solve: the statements and commands that it needs, with bare clients."""

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Any, NamedTuple

import asyncpg
import orjson
import uvloop
from redis.asyncio import Redis

from benchmarks.floors import SETTINGS, statements
from benchmarks.processor import Spent, spent
from benchmarks.stage import Stage
from benchmarks.webapp import Solve
from statsd import keys
from statsd.events import ChallengeSolve, encode

STREAM, GROUP = "floor:solves", "floor"
WINDOWS = (0, 7, 30)  # days
MOMENT = "1700000000.000000"


class SolveFloor(NamedTuple):
    """What a solve takes: processor time by process and wall time, in seconds."""

    spent: Spent
    wall: float


def measure(stage: Stage, solves: Sequence[Solve], rounds: int) -> tuple[SolveFloor, SolveFloor]:
    """Do what each of these solves needs, some times; return the mean without arrays, and with.

    This process takes the place of the daemon. Arrays of scoreboards that have the solve are read
    and written as they are; crews and scores are left out.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(stage, solves, rounds))


async def _measure(
    stage: Stage, solves: Sequence[Solve], rounds: int
) -> tuple[SolveFloor, SolveFloor]:
    connection = await asyncpg.connect(stage.servers.database_url)
    cache: Any
    async with Redis.from_url(stage.servers.redis_url) as cache:
        await cache.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        await connection.execute(SETTINGS)
        bare = _BareSolves(connection, cache)
        for each in solves:  # fills caches, and makes plans
            await bare.write_arrays(await bare.answer(each))
        found = []
        for with_arrays in (False, True):
            before, began = spent(stage), perf_counter()
            for each in [*solves] * rounds:
                scoreboards = await bare.answer(each)
                if with_arrays:
                    await bare.write_arrays(scoreboards)
            count = len(solves) * rounds
            took = spent(stage).since(before).times(1 / count)
            found.append(SolveFloor(took, (perf_counter() - began) / count))
        async for key in cache.scan_iter("floor:*", count=1000):
            await cache.unlink(key)
    await connection.close()
    return found[0], found[1]


class _BareSolves:
    """The statements and commands of a solve."""

    def __init__(self, connection: "asyncpg.Connection", cache: Any) -> None:
        self._fetch = connection.fetch
        self._cache = cache
        self._look_up, self._entries, self._dojos = statements("solve")

    async def answer(self, solve: Solve) -> list[str]:
        """Do all that a solve needs but for arrays; return the keys of the arrays with it."""
        user, cache = solve.user_id, self._cache
        await cache.xadd(STREAM, {"data": encode(ChallengeSolve(user, solve.challenge_id))})
        [[_, [[entry, fields]]]] = await cache.xreadgroup(GROUP, "floor", {STREAM: ">"}, 1)
        orjson.loads(fields[b"data"])
        rows = await self._fetch(self._look_up, user, solve.challenge_id)
        rows = [row for row in rows if row["is_touched"]]
        references = {
            row["dojo_id"]: keys.reference_id(row["dojo_id"], row["slug"], official=row["official"])
            for row in rows
        }
        scopes: list[tuple[int, int | None]] = [(dojo_id, None) for dojo_id in references]
        scopes += [*{(row["dojo_id"], row["module_index"]) for row in rows if row["required"]}]
        scoreboards = [keys.scoreboard(*each, days) for each in scopes for days in WINDOWS]
        stats = [keys.dojo_stats(each) for each in references.values()]
        await self._fetch(self._entries, user, [*references])
        await self._fetch(self._dojos, [*references])
        async with cache.pipeline(transaction=False) as pipeline:
            for key in scoreboards:
                pipeline.zadd(f"floor:{key}:board", {user: 1})
            for key in stats:
                pipeline.get(key)
            values = (await pipeline.execute())[len(scoreboards) :]
            for key, value in zip(stats, values, strict=True):
                self._set(pipeline, key, value or b"{}")
            pipeline.xack(STREAM, GROUP, entry).xdel(STREAM, entry)
            await pipeline.execute()
        return scoreboards

    async def write_arrays(self, scoreboards: Sequence[str]) -> None:
        """Read and write arrays."""
        async with self._cache.pipeline(transaction=False) as pipeline:
            for key in scoreboards:
                pipeline.get(key)
            for key, value in zip(scoreboards, await pipeline.execute(), strict=True):
                self._set(pipeline, key, value or b"[]")
            await pipeline.execute()

    @staticmethod
    def _set(pipeline: Any, key: str, value: bytes) -> None:
        pipeline.set(f"floor:{key}", value).set(f"floor:{keys.updated(key)}", MOMENT)
