"""Compare cached values with the full calculation, and totals with separate SQL."""

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby, islice
from time import monotonic
from typing import Any, NamedTuple

import orjson
from redis.asyncio import Redis

from benchmarks import floors
from benchmarks.result import say
from benchmarks.webapp import Webapp
from statsd import keys, urls
from statsd.calculators import scoreboard
from statsd.calculators.activity import Activity
from statsd.calculators.catalog import calculator_of
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.user_entries import solves_in
from statsd.consistency.compare import Comparison
from statsd.consistency.reconcile import existing_statistics
from statsd.dev import embedded
from statsd.job import Job
from statsd.servers.database import Database

EXPORT_DEADLINE = 15.0  # seconds until an array is exported again
RETRY_INTERVAL = 1.0  # seconds
PROGRESS_INTERVAL = 15.0  # seconds between two lines of progress
USERS = 300  # activities that are compared
TRIES = 3


class Verdict(NamedTuple):
    """The number of compared values, and the names of the wrong ones."""

    compared: int
    wrong: Sequence[str]


def verdict(servers: embedded.EmbeddedServers, webapp: Webapp) -> Verdict:
    """Compare all cached values; the daemons must have nothing left to do."""
    counted, miscounted = _counted(servers, webapp)
    compared, wrong = asyncio.run(_compared(servers))
    return Verdict(counted + compared, miscounted + wrong)


def _counted(servers: embedded.EmbeddedServers, webapp: Webapp) -> tuple[int, list[str]]:
    """Compare the totals of all dojos with the statement of the floor."""
    rows, *_ = floors.rows_of(servers, "dojo_stats")
    totals = {row["dojo_id"]: (int(row["solves"]), row["users"]) for row in rows}
    wrong = []
    references = webapp.references()
    for dojo_id, reference in references.items():
        raw: Any = webapp.cache.get(keys.dojo_stats(reference))
        value = orjson.loads(raw) if raw else {}
        if (value.get("solves"), value.get("users")) != totals.get(dojo_id, (0, 0)):
            wrong.append(f"the totals of dojo {dojo_id}")
    return len(references), wrong


async def _compared(servers: embedded.EmbeddedServers) -> tuple[int, list[str]]:
    url = urls.database_url(servers.database_url)
    database = Database(url, pool_size=2, statement_timeout=50, prepared_statements=False)
    async with Redis.from_url(servers.redis_url) as cache:
        jobs = _chosen(await existing_statistics(database))
        comparison = Comparison(cache, database)
        wrong: list[str] = []
        done, reported = 0, monotonic()
        for page in _pages(jobs):
            if monotonic() - reported > PROGRESS_INTERVAL:
                say(f"compared: {done:,} of {len(jobs):,} values")
                reported = monotonic()
            now = datetime.now(UTC).replace(tzinfo=None)
            found = await comparison.compare(page, now)
            wrong += [each.job.name for each in found.differences]
            wrong += [job.name for job, _ in found.failures]
            done += len(page)
        arrays = [
            name.decode()
            async for name in cache.scan_iter("stats:scoreboard:*:[0-9]*", count=1000)
            if not name.endswith(b":updated")
        ]
        differing = await _differing(cache, arrays)
        began = monotonic()
        # When a solve leaves a window, the board changes at once, the array after its cooldown.
        while differing and monotonic() - began < EXPORT_DEADLINE:
            await asyncio.sleep(RETRY_INTERVAL)
            differing = await _differing(cache, differing)
        # The cooldown of a large dojo is minutes: compare its live board with the database.
        differing = [name for name in differing if not await _board_is_right(cache, database, name)]
    await database.close()
    return len(jobs) + len(arrays), wrong + differing


def _chosen(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs to compare: all jobs, but activities only of some users.

    Each activity has its own as-of, and computing it for that moment reads all submissions.
    """
    users = [job for job in jobs if job.kind == Activity.kind]
    sample = {*random.Random(3).sample(users, min(USERS, len(users)))}  # noqa: S311 - no secret
    return [job for job in jobs if job.kind != Activity.kind or job in sample]


def _pages(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Yield batches of jobs of one kind, in the batch size of its calculator."""
    for kind, own in groupby(jobs, key=lambda job: job.kind):
        size = calculator_of(kind).cost.batch
        while page := [*islice(own, size)]:
            yield page


async def _differing(cache: Redis, arrays: Sequence[str]) -> list[str]:
    """Return the keys of the scoreboards that differ from their live boards."""
    found = []
    for name in arrays:
        live = await _live(cache, name)
        if live != _entries(orjson.loads(await cache.get(name) or b"[]")):
            found.append(name)
    return found


async def _board_is_right(cache: Redis, database: Database, name: str) -> bool:
    """Return whether a live board equals the full calculation for the present moment."""
    job = Scoreboard(_scope(name)[0])
    for _ in range(TRIES):  # a solve may leave a window between the two reads
        now = datetime.now(UTC).replace(tzinfo=None)
        live = await _live(cache, name)
        async with database.snapshot() as snapshot:
            rows = await scoreboard.calculator.read(snapshot.rows, [job], now)
        array: Any = scoreboard.calculator.shape(rows)[job][name]
        if live == _entries(array):
            return True
    return False


def _scope(name: str) -> tuple[int, str, str]:
    """Return dojo, scope and days from the key of a scoreboard."""
    _, _, kind, dojo_id, *index, days = name.split(":")
    return int(dojo_id), keys.DOJO if kind == "dojo" else index[0], days


async def _live(cache: Redis, name: str) -> list[tuple[int, int]]:
    """Return users and solves of the live board that belongs to a scoreboard's key."""
    dojo_id, scope, days = _scope(name)
    key = f"{keys.boards(dojo_id)}:{scope}:{days}"
    found: Any = await cache.zrevrange(key, 0, -2, withscores=True)
    return [(int(user), solves_in(int(score))) for user, score in found]


def _entries(array: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    return [(entry["user_id"], entry["solves"]) for entry in array]
