"""From an award to the pages: `python -m benchmarks.awards [--scale small|medium|large]`.

Idle, one award after another: the time from its event until the value has it, beside the bare
statement, JSON and write. Then many awards in a moment: how long until the value has all, and how
often it was written.
"""

import argparse
import asyncio
import statistics
from contextlib import contextmanager
from time import perf_counter, sleep, time
from typing import Any

import orjson
import psycopg2.extras

from benchmarks.cold_start import SCALES
from benchmarks.live import PAUSE, Platform, daemon, percentile, wait
from statsd import embedded, keys, sample
from statsd.refresh import Priority

IDLE_AWARDS, BURST = 25, 1000
EVERYTHING = (*Priority,)[: Priority.IDLE]
EVENTS = {"belt": "belts_update", "emoji": "emojis_update"}
KEYS = {"belt": keys.BELTS, "emoji": keys.EMOJIS}
BARE = {
    "belt": "SELECT a.name, a.date::text, a.user_id, u.name, u.website FROM awards a"
    " JOIN users u ON u.id = a.user_id WHERE a.type = 'belt' AND u.hidden IS NOT TRUE",
    "emoji": "SELECT a.user_id, a.name, a.description, a.category, a.icon FROM awards a"
    " JOIN users u ON u.id = a.user_id WHERE a.type = 'emoji' AND u.hidden IS NOT TRUE",
}


class Awards:
    """Grants awards to users, and publishes events as an application does."""

    def __init__(self, platform: Platform, users: list[int]) -> None:
        self._platform = platform
        self._users = users
        self._given = 0

    def grant(self, kind: str, count: int) -> list[int]:
        """Commit awards, one for each user; return the users."""
        users = self._users[self._given : self._given + count]
        self._given += count
        values = [(user, kind, {"belt": "black", "emoji": "CURRENT"}[kind]) for user in users]
        with self._platform.database.cursor() as cursor:
            psycopg2.extras.execute_values(
                cursor,
                "INSERT INTO awards (user_id, type, name, icon, category, description, date)"
                " SELECT u, t, n, 'new', 'new', '', now() AT TIME ZONE 'UTC'"
                " FROM (VALUES %s) AS given (u, t, n)",
                values,
            )
        return users

    def publish(self, kind: str, count: int = 1) -> None:
        """Publish as many events."""
        data = orjson.dumps({"type": EVENTS[kind]})
        with self._platform.cache.pipeline(transaction=False) as pipeline:
            for _ in range(count):
                pipeline.xadd(keys.STREAM, {"data": data})
            pipeline.execute()

    def have(self, kind: str, users: list[int]) -> bool:
        """Say whether the cached value has the last of these users' new awards."""
        value = orjson.loads(self._platform.cache.get(KEYS[kind]) or b"{}")
        last = str(users[-1])
        if kind == "belt":
            return last in value["dates"]["black"]
        return any(each["category"] == "new" for each in value["emojis"].get(last, ()))

    def may_be_computed(self, kind: str) -> bool:
        """Say whether the value has rested for what it took the last time."""
        until = int(self._platform.cache.hget(f"{keys.INTERNAL}rests", f"{kind}s") or 0)
        return until < time() * 1_000_000


def idle(platform: Platform, awards: Awards, kind: str) -> tuple[list[float], list[float]]:
    """Award one after another; return the seconds until the value had it, and of the bare trips."""
    seen, floor = [], []
    platform.cache.config_set("notify-keyspace-events", "K$z")
    for _ in range(IDLE_AWARDS):
        with platform.changes(KEYS[kind]) as next_change:
            users = awards.grant(kind, 1)
            began = perf_counter()
            awards.publish(kind)
            next_change()
            seen.append(perf_counter() - began)
        if not awards.have(kind, users):
            raise AssertionError("the value was written without the award")
        wait(
            lambda: not platform.owed(*EVERYTHING) and not platform.cache.exists(keys.LATER), "rest"
        )
        sleep(PAUSE)
        began = perf_counter()
        rows = platform.rows(BARE[kind])
        platform.cache.set("floor", orjson.dumps(rows))
        floor.append(perf_counter() - began)
        wait(lambda: awards.may_be_computed(kind), "it has rested")
    platform.cache.config_set("notify-keyspace-events", "")
    return seen, floor


def burst(platform: Platform, awards: Awards, kind: str) -> str:
    """Award many in a moment; say how long it took."""
    users = awards.grant(kind, BURST)
    stamps: set[Any] = set()
    began = perf_counter()
    awards.publish(kind, BURST)

    def has_all() -> bool:
        stamps.add(platform.cache.get(keys.updated(KEYS[kind])))
        return not platform.cache.xlen(keys.STREAM) and awards.have(kind, users)

    seconds = wait(has_all, "all awards")
    wait(lambda: not platform.owed(*EVERYTHING), "rest")
    stamps.add(platform.cache.get(keys.updated(KEYS[kind])))
    settled = perf_counter() - began
    return f"{seconds * 1000:.0f} ms, {len(stamps) - 1} writes in {settled:.2f} s"


@contextmanager
def platform_at(scale: str) -> Any:
    """Give a platform of a size beside a daemon whose cold start is done."""
    with embedded.servers() as servers:
        asyncio.run(sample.create_tables(servers.database_url))
        loaded = asyncio.run(sample.load(servers.database_url, SCALES[scale]))
        print(f"{loaded.users} users, {loaded.awards} awards")
        platform = Platform(servers)
        with daemon(servers):
            wait(lambda: platform.cache.hlen(keys.HOLDINGS) >= loaded.dojos, "the cold start")
            wait(lambda: not platform.owed(*EVERYTHING), "the cold start")
            yield platform


def main() -> None:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="medium")
    options = parser.parse_args()
    with platform_at(options.scale) as platform:
        users = platform.rows("SELECT id FROM users WHERE hidden IS NOT TRUE ORDER BY id")
        for kind, key in KEYS.items():
            awards = Awards(platform, [user for (user,) in users])
            seen, floor = idle(platform, awards, kind)
            size = platform.cache.strlen(key) / 1e6
            print(
                f"{kind}: value of {size:.2f} MB; idle p50 {percentile(seen, 50):.1f} ms, "
                f"p99 {percentile(seen, 99):.1f} ms, "
                f"{statistics.median(seen) / statistics.median(floor):.2f} x the bare trips "
                f"({percentile(floor, 50):.1f} ms)"
            )
            print(f"{kind}: {BURST} awards in a moment:", burst(platform, awards, kind))


if __name__ == "__main__":
    main()
