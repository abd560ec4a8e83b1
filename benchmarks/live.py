"""From a commit to the pages: `python -m benchmarks.live [--scale small|medium|large]`.

Idle, one solve after another: the time until its user stands on the live board, and until the
dojo's statistics have it, beside the bare round trips they consist of. Then bursts of solves, of
all dojos and of a single one: how fast they are accepted and answered, how long it takes until
every exported value is fresh, and whether all are what a full calculation says.
"""

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic, perf_counter, sleep
from typing import Any, NamedTuple

import asyncpg
import orjson
import psycopg2
import psycopg2.extras
import redis
import uvloop
from redis.asyncio import Redis

from benchmarks.cold_start import SCALES
from statsd import embedded, keys, sample, urls
from statsd.calculators.standing import solves_in
from statsd.compare import Comparison
from statsd.database import Database
from statsd.refresh import Priority, Refresh
from statsd.statistics import every_statistic

DEADLINE = 600.0  # seconds
IDLE_SOLVES, BURST = 100, 10_000
POLL = 0.002  # seconds
RESTED = 10.0  # seconds in which an array is exported again
PAUSE = 0.1  # seconds in which nothing happens
BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


URGENT = (Priority.MISSED, Priority.INTERACTIVE, Priority.ORDINARY)
WORK = (*URGENT, Priority.EXPORT)


class Solve(NamedTuple):
    """A solve to come, with one of the dojos that count it."""

    user_id: int
    challenge_id: int
    dojo_id: int


class Platform:
    """A web application: it commits solves and publishes their events."""

    def __init__(self, servers: embedded.Servers) -> None:
        self.cache = redis.Redis.from_url(servers.redis_url)
        self.database = psycopg2.connect(servers.database_url)
        self.database.autocommit = True

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        with self.database.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall()

    def open_pairs(self, count: int, *, dojo_id: int | None = None) -> list[Solve]:
        """Choose solves that nobody has, of public dojos or of one."""
        chance = random.Random(1)  # noqa: S311 - no secret
        rows = self.rows(_CHALLENGES, dojo_id, dojo_id)
        users = [user for (user,) in self.rows(_USERS)]
        challenges = {challenge: dojo for dojo, challenge in rows}
        solved = set(self.rows(_SOLVED, list(challenges)))
        pairs: dict[tuple[int, int], Solve] = {}
        choices = list(challenges)
        while len(pairs) < count:
            user, challenge = chance.choice(users), chance.choice(choices)
            if (challenge, user) not in solved:
                pairs[challenge, user] = Solve(user, challenge, challenges[challenge])
        return list(pairs.values())

    def commit(self, solves: list[Solve]) -> None:
        """Write solves, in one transaction for each thousand."""
        values = [(each.user_id, each.challenge_id) for each in solves]
        with self.database.cursor() as cursor:
            psycopg2.extras.execute_values(cursor, _INSERT, values, page_size=1000)

    def publish(self, solves: list[Solve]) -> None:
        """Publish their events."""
        with self.cache.pipeline(transaction=False) as pipeline:
            for each in solves:
                payload = {"user_id": each.user_id, "challenge_id": each.challenge_id}
                data = orjson.dumps({"type": "challenge_solve", "payload": payload})
                pipeline.xadd(keys.STREAM, {"data": data})
            pipeline.execute()

    @contextmanager
    def changes(self, *names: str) -> Iterator[Callable[[], None]]:
        """Give what returns when any of some keys is changed."""
        with self.cache.pubsub(ignore_subscribe_messages=True) as subscription:
            subscription.subscribe(*(f"__keyspace@0__:{name}" for name in names))
            for _ in names:
                subscription.get_message(timeout=DEADLINE)  # that it is subscribed

            def next_change() -> None:
                if subscription.get_message(timeout=DEADLINE) is None:
                    raise TimeoutError(f"not within {DEADLINE:.0f} s: a change of {names}")

            yield next_change

    def owed(self, *classes: Priority) -> int:
        """Count what is owed in some classes."""
        return sum(int(self.cache.zcard(keys.due(each))) for each in classes)

    def solves_on_board(self, dojo_id: int, user_id: int) -> int:
        """Return what a user has on the live board of a dojo."""
        found = self.cache.zscore(f"{keys.boards(dojo_id)}:{keys.DOJO}:0", str(user_id))
        return solves_in(int(found)) if found else 0

    def solves_in_stats(self, reference: str) -> int:
        """Return what a dojo's statistics say."""
        return int(orjson.loads(self.cache.get(keys.dojo_stats(reference)) or b"{}")["solves"])


_CHALLENGES = """
SELECT DISTINCT dc.dojo_id, dc.challenge_id FROM dojo_challenges dc
JOIN dojos d USING (dojo_id) JOIN dojo_modules USING (dojo_id, module_index)
WHERE dc.required AND (d.official OR d.data ->> 'type' = 'public')
  AND (%s::int IS NULL OR dc.dojo_id = %s)
  AND NOT EXISTS (
    SELECT FROM dojo_challenge_visibilities v
    WHERE (v.dojo_id, v.module_index, v.challenge_index)
        = (dc.dojo_id, dc.module_index, dc.challenge_index)
  )
ORDER BY 1, 2
"""
_USERS = """
SELECT id FROM users WHERE hidden IS NOT TRUE
  AND id NOT IN (SELECT user_id FROM dojo_users WHERE type = 'admin') ORDER BY 1
"""
_SOLVED = """
SELECT challenge_id, user_id FROM submissions
WHERE type = 'correct' AND user_id IS NOT NULL AND challenge_id = ANY(%s)
"""
_INSERT = """
INSERT INTO submissions (user_id, challenge_id, type, date)
SELECT given.u, given.c, 'correct', now() AT TIME ZONE 'UTC' FROM (VALUES %s) AS given (u, c)
"""
_HOTTEST = """
SELECT dc.dojo_id, count(*) FROM dojo_challenges dc JOIN dojos d USING (dojo_id)
JOIN submissions s ON s.challenge_id = dc.challenge_id AND s.type = 'correct'
WHERE dc.required AND (d.official OR d.data ->> 'type' = 'public')
GROUP BY 1 ORDER BY 2 DESC LIMIT 1
"""


def wait(condition: Callable[[], bool], what: str) -> float:
    """Return after how many seconds the condition held."""
    began = perf_counter()
    while not condition():
        if perf_counter() - began > DEADLINE:
            raise TimeoutError(f"not within {DEADLINE:.0f} s: {what}")
        sleep(POLL)
    return perf_counter() - began


@contextmanager
def daemon(servers: embedded.Servers) -> Iterator[None]:
    """Run a daemon on an empty cache."""
    own = {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
    process = subprocess.Popen(
        [sys.executable, "-m", "statsd", "run"], env=os.environ | own, stdout=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


class Bare:
    """The bare round trips that a solve takes to the statistics, at the same pace.

    Redis: publish, read, accept, and take and settle for each of the two answers, and the facts;
    PostgreSQL: three transactions with four statements in all.
    """

    def __init__(self, servers: embedded.Servers) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._cache = Redis.from_url(servers.redis_url)
        self._connection = self._runner.run(asyncpg.connect(servers.database_url))

    def trips(self) -> float:
        """Make all of them; return how many seconds that took."""
        return self._runner.run(self._trips())

    async def _trips(self) -> float:
        began = perf_counter()
        for _ in range(8):
            await self._cache.ping()
        for statements in (2, 1, 1):
            await self._connection.execute(BEGIN)
            for _ in range(statements):
                await self._connection.fetch("SELECT 1")
            await self._connection.execute("ROLLBACK")
        return perf_counter() - began

    def close(self) -> None:
        """Let the connections go."""
        self._runner.run(self._connection.close())
        self._runner.run(self._cache.aclose())
        self._runner.close()


def idle(platform: Platform, bare: Bare) -> tuple[list[float], list[float], list[float]]:
    """Solve one after another; return the seconds until board and statistics had it.

    And those that the bare trips took, between them.
    """
    references = {
        dojo: keys.reference_id(dojo, slug, official=bool(official))
        for dojo, slug, official in platform.rows("SELECT dojo_id, id, official FROM dojos")
    }
    boards, stats, floor = [], [], []
    platform.cache.config_set("notify-keyspace-events", "K$z")  # polling would take its share
    for solve in platform.open_pairs(IDLE_SOLVES):
        reference = references[solve.dojo_id]
        on_board = platform.solves_on_board(solve.dojo_id, solve.user_id)
        in_stats = platform.solves_in_stats(reference)
        with platform.changes(
            f"{keys.boards(solve.dojo_id)}:{keys.DOJO}:0", keys.dojo_stats(reference)
        ) as next_change:
            platform.commit([solve])
            began = perf_counter()
            platform.publish([solve])
            while platform.solves_on_board(solve.dojo_id, solve.user_id) == on_board:
                next_change()
            boards.append(perf_counter() - began)
            while platform.solves_in_stats(reference) == in_stats:
                next_change()
            stats.append(perf_counter() - began)
        wait(lambda: not platform.owed(*WORK), "idleness")
        sleep(PAUSE)
        floor.append(bare.trips())
        sleep(PAUSE)
    platform.cache.config_set("notify-keyspace-events", "")
    return boards, stats, floor


def burst(platform: Platform, solves: list[Solve]) -> str:
    """Publish all at once; say how long it took."""
    platform.commit(solves)
    began = monotonic()
    platform.publish(solves)
    wait(lambda: not platform.cache.xlen(keys.STREAM), "accepted")
    accepted = monotonic() - began
    wait(lambda: not platform.owed(*URGENT), "answered")
    answered = monotonic() - began
    wait(lambda: not platform.owed(*WORK), "exported")
    exported = monotonic() - began
    return (
        f"accepted after {accepted:.2f} s, boards and statistics after {answered:.2f} s "
        f"({len(solves) / answered:,.0f} events/s), every export fresh after {exported:.2f} s"
    )


async def wrong(servers: embedded.Servers) -> tuple[int, int]:
    """Compare all values, and boards with arrays; return how many were, and how many differ."""
    url = urls.database_url(servers.database_url)
    database = Database(url, pool_size=2, statement_timeout=50, prepared_statements=False)
    async with Redis.from_url(servers.redis_url) as cache:
        refreshes: list[Refresh] = await every_statistic(database)
        comparison = Comparison(cache, database)
        differences = 0
        for first in range(0, len(refreshes), 100):
            page = refreshes[first : first + 100]
            now = datetime.now(UTC).replace(tzinfo=None)
            differences += len((await comparison.compare(page, now)).differences)
        boards = await _boards(cache)
        for _ in range(3):
            if not all(boards):  # a solve has left a window: the array follows when it has rested
                await asyncio.sleep(RESTED)
                boards = await _boards(cache)
    await database.close()
    return len(refreshes) + len(boards), differences + boards.count(False)


async def _boards(cache: Redis) -> list[bool]:
    """Say of each live board whether it is what the array says."""
    found = []
    async for name in cache.scan_iter("stats:scoreboard:*:[0-9]*", count=1000):
        _, _, kind, *place, days = name.decode().split(":")
        if days == "updated":
            continue
        dojo_id, index = (*map(int, place), None)[:2]
        key = f"{keys.boards(dojo_id or 0)}:{keys.DOJO if kind == 'dojo' else index}:{days}"
        live: Any = await cache.zrevrange(key, 0, -2, withscores=True)
        array = orjson.loads(await cache.get(name) or b"[]")
        found.append(
            [(int(user), solves_in(int(score))) for user, score in live]
            == [(entry["user_id"], entry["solves"]) for entry in array]
        )
    return found


def percentile(values: list[float], part: float) -> float:
    """Return a percentile, in milliseconds."""
    return statistics.quantiles(values, n=100)[int(part) - 1] * 1000


@contextmanager
def platform_at(scale: str) -> Iterator[tuple[embedded.Servers, Platform]]:
    """Give servers with a sample, and its application, when a daemon's cold start is done."""
    with embedded.servers() as servers:
        asyncio.run(sample.create_tables(servers.database_url))
        loaded = asyncio.run(sample.load(servers.database_url, SCALES[scale]))
        print(f"{loaded.dojos} dojos, {loaded.users} users, {loaded.solves} solves")
        platform = Platform(servers)
        with daemon(servers):
            wait(lambda: platform.cache.hlen(keys.HOLDINGS) >= loaded.dojos, "the cold start")
            wait(lambda: not platform.owed(*(*Priority,)[: Priority.IDLE]), "the cold start")
            yield servers, platform


def main() -> None:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="medium")
    options = parser.parse_args()
    with platform_at(options.scale) as (servers, platform):
        bare = Bare(servers)
        boards, stats, floor = idle(platform, bare)
        bare.close()
        for name, times in (("board", boards), ("dojo stats", stats), ("bare trips", floor)):
            ratio = statistics.median(times) / statistics.median(floor)
            print(
                f"idle, {name:<11} p50 {percentile(times, 50):6.2f} ms, "
                f"p99 {percentile(times, 99):6.2f} ms, {ratio:.2f} x the bare trips"
            )
        print("burst over all dojos:", burst(platform, platform.open_pairs(BURST)))
        [(hottest, solves)] = platform.rows(_HOTTEST)
        pairs = platform.open_pairs(BURST, dojo_id=hottest)
        print(f"burst in one dojo of {solves} solves:", burst(platform, pairs))
        print("compared: {}, wrong: {}".format(*asyncio.run(wrong(servers))))


if __name__ == "__main__":
    main()
