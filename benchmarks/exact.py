"""Whether all is right: values beside the full calculation, and beside SQL apart from it."""

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
from statsd.consistency.existing import every_statistic
from statsd.dev import embedded
from statsd.job import Job
from statsd.servers.database import Database

RESTED = 15.0  # seconds in which an array is exported again
LOOK = 1.0  # seconds
TELL = 15.0  # seconds between two lines of progress
USERS = 300  # whose activity is compared
TRIES = 3


class Verdict(NamedTuple):
    """How many values were compared, and which of them were wrong."""

    compared: int
    wrong: Sequence[str]


def verdict(servers: embedded.EmbeddedServers, webapp: Webapp) -> Verdict:
    """Compare every value that daemons at rest have written."""
    counted, miscounted = _counted(servers, webapp)
    compared, wrong = asyncio.run(_compared(servers))
    return Verdict(counted + compared, miscounted + wrong)


def _counted(servers: embedded.EmbeddedServers, webapp: Webapp) -> tuple[int, list[str]]:
    """Compare totals of all dojos with the floor's own statement."""
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
        jobs = _chosen(await every_statistic(database))
        comparison = Comparison(cache, database)
        wrong: list[str] = []
        done, told = 0, monotonic()
        for page in _pages(jobs):
            if monotonic() - told > TELL:
                say(f"compared: {done:,} of {len(jobs):,} values")
                told = monotonic()
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
        # Where a solve has left a window, the array follows when it has rested.
        while differing and monotonic() - began < RESTED:
            await asyncio.sleep(LOOK)
            differing = await _differing(cache, differing)
        # That of a large dojo rests for minutes: there the live board stands beside the database.
        differing = [name for name in differing if not await _is_live(cache, database, name)]
    await database.close()
    return len(jobs) + len(arrays), wrong + differing


def _chosen(jobs: Sequence[Job]) -> list[Job]:
    """Return all but the activity of most users.

    Each that solved something has a moment of its own, for which all submissions are read.
    """
    users = [job for job in jobs if job.kind == Activity.kind]
    some = {*random.Random(3).sample(users, min(USERS, len(users)))}  # noqa: S311 - no secret
    return [job for job in jobs if job.kind != Activity.kind or job in some]


def _pages(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Yield refreshes of one kind, as many as are computed at once."""
    for kind, own in groupby(jobs, key=lambda job: job.kind):
        size = calculator_of(kind).batch
        while page := [*islice(own, size)]:
            yield page


async def _differing(cache: Redis, arrays: Sequence[str]) -> list[str]:
    """Return those scoreboards that are not what the live boards say."""
    found = []
    for name in arrays:
        live = await _live(cache, name)
        if live != _entries(orjson.loads(await cache.get(name) or b"[]")):
            found.append(name)
    return found


async def _is_live(cache: Redis, database: Database, name: str) -> bool:
    """Say whether a live board is what the full calculation says, for the moment it is read at."""
    job = Scoreboard(_scope(name)[0])
    for _ in range(TRIES):  # a solve may leave a window as we look
        now = datetime.now(UTC).replace(tzinfo=None)
        live = await _live(cache, name)
        async with database.snapshot() as snapshot:
            rows = await scoreboard.calculator.read(snapshot.rows, [job], now)
        array: Any = scoreboard.calculator.shape(rows)[job][name]
        if live == _entries(array):
            return True
    return False


def _scope(name: str) -> tuple[int, str, str]:
    """Return the dojo, the place and the days that a scoreboard's key is of."""
    _, _, kind, dojo_id, *index, days = name.split(":")
    return int(dojo_id), keys.DOJO if kind == "dojo" else index[0], days


async def _live(cache: Redis, name: str) -> list[tuple[int, int]]:
    """Return users and solves of the live board that stands for a scoreboard."""
    dojo_id, scope, days = _scope(name)
    key = f"{keys.boards(dojo_id)}:{scope}:{days}"
    found: Any = await cache.zrevrange(key, 0, -2, withscores=True)
    return [(int(user), solves_in(int(score))) for user, score in found]


def _entries(array: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    return [(entry["user_id"], entry["solves"]) for entry in array]
