"""Compare cached values with the full calculation, and totals with separate SQL."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby, islice
from time import monotonic, sleep
from typing import Any, NamedTuple

import orjson
from redis.asyncio import Redis

from benchmarks import floors
from benchmarks.result import say
from benchmarks.webapp import Webapp
from statsd import keys
from statsd.calculators.activity import Activity
from statsd.calculators.catalog import calculator_of
from statsd.consistency.compare import Comparison
from statsd.consistency.reconcile import existing_statistics
from statsd.dev import embedded
from statsd.job import Job
from statsd.servers.database import Database

EXPORT_DEADLINE = 15.0  # seconds until an array is exported again
RETRY_INTERVAL = 1.0  # seconds
PROGRESS_INTERVAL = 15.0  # seconds between two lines of progress
WHOLE = 2**31  # entries
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
    boards, differing = _boards(webapp)
    return Verdict(counted + compared + boards, [*miscounted, *wrong, *differing])


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
    url = servers.database_url
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
    await database.close()
    return len(jobs), wrong


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


def _boards(webapp: Webapp) -> tuple[int, list[str]]:
    """Compare all boards, as the reader shows them, with their arrays."""
    arrays = webapp.expected_keys()["scoreboard"]
    differing = [*arrays]
    began = monotonic()
    # When a solve leaves a window, the board changes at once, the array later.
    while differing := [name for name in differing if not _is_as_board(webapp, name)]:
        if monotonic() - began > EXPORT_DEADLINE:
            break
        sleep(RETRY_INTERVAL)
    # A large array may take longer: compare the board with the database.
    return len(arrays), [name for name in differing if not _board_is_right(webapp, name)]


def _is_as_board(webapp: Webapp, name: str) -> bool:
    """Return whether an array equals its live board."""
    array = orjson.loads(webapp.cache.get(name) or b"[]")
    return [*array] == [*webapp.reader.get_scoreboard(*_board(name), per_page=WHOLE).entries]


def _board_is_right(webapp: Webapp, name: str) -> bool:
    """Return whether a live board equals the full calculation for the present moment."""
    dojo_id, module_index, days = _board(name)
    statement = floors.statements("scoreboard")[0]
    for _ in range(TRIES):  # a solve may leave a window between the two reads
        page = webapp.reader.get_scoreboard(dojo_id, module_index, days, per_page=WHOLE)
        rows = webapp.rows(statement, dojo_id=dojo_id, module_index=module_index, days=days or None)
        if [(each["user_id"], each["solves"]) for each in page.entries] == rows:
            return True
    return False


def _board(name: str) -> tuple[int, int | None, int]:
    """Return dojo, module and days from the key of a scoreboard."""
    _, _, kind, dojo_id, *index, days = name.split(":")
    return int(dojo_id), None if kind == "dojo" else int(index[0]), int(days)
