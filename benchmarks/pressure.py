"""Under a burst: `python -m benchmarks.pressure [--seconds 10] [--scale small|medium|large]`.

So many events in so many seconds over all dojos, of which one takes half. For the quiet dojos: the
time from publishing to the statistics in the cache. Beside it how far each class fell behind, how
long the exports took to catch up, what memory was used, and whether all is right in the end.
"""

import argparse
import asyncio
import random
import threading
from collections import defaultdict
from contextlib import suppress
from time import perf_counter, sleep, time
from typing import Any, NamedTuple, Self

import redis
from redis.asyncio import Redis

from benchmarks.cold_start import SCALES
from benchmarks.live import (
    _HOTTEST,
    URGENT,
    WORK,
    Platform,
    Solve,
    percentile,
    platform_at,
    wait,
    wrong,
)
from statsd import embedded, keys
from statsd.status import Status, status

EVENTS = 20_000
TICK = 0.02  # seconds between two transactions of the web application
WATCHED = 40  # quiet dojos
LOOK = 0.25  # seconds between two looks at what is owed


class Seen(NamedTuple):
    """A value that was written: when, and the moment that it is true for, in Unix seconds."""

    written: float
    stamp: float


class Listener:
    """Notes when the statistics of some dojos are written."""

    def __init__(self, url: str, references: dict[int, str]) -> None:
        self._client = redis.Redis.from_url(url)
        self._of = {
            f"__keyspace@0__:{keys.updated(keys.dojo_stats(each))}".encode(): dojo_id
            for dojo_id, each in references.items()
        }
        self.seen: dict[int, list[Seen]] = defaultdict(list)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._client.config_set("notify-keyspace-events", "K$")
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()
        self._client.config_set("notify-keyspace-events", "")

    def _listen(self) -> None:
        with self._client.pubsub(ignore_subscribe_messages=True) as subscription:
            subscription.subscribe(*self._of)
            while not self._over.is_set():
                message: Any = subscription.get_message(timeout=0.1)
                if message:
                    stamp: Any = self._client.get(message["channel"].split(b":", 1)[1])
                    self.seen[self._of[message["channel"]]].append(Seen(time(), float(stamp)))


class Looks:
    """Looks at what is owed, again and again, and keeps the worst."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.worst: dict[str, float] = defaultdict(float)
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._look()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    async def _look(self) -> None:
        async with Redis.from_url(self._url) as client:
            while not self._over.wait(LOOK):
                self._keep(await status(client), await client.info("memory"))

    def _keep(self, found: Status, memory: Any) -> None:
        figures = {
            "unread events": found.overview.unread,
            "lag, s": found.overview.lag,
            "Redis, MB": memory["used_memory"] / 1e6,
            "daemon, MB": max(each.memory for each in found.daemons) / 1e6,
            "loop lag, ms": max(each.loop_lag for each in found.daemons) * 1000,
        }
        figures |= {f"owed, {name}": each for name, each in found.overview.owed.items()}
        figures |= {f"overdue, {name}, s": each for name, each in found.overview.overdue.items()}
        for name, each in figures.items():
            self.worst[name] = max(self.worst[name], each)


def chosen(platform: Platform, hottest: int, events: int) -> list[Solve]:
    """Return solves, half of them of the hottest dojo, in random order."""
    one = platform.open_pairs(events // 2, dojo_id=hottest)
    taken = {(each.user_id, each.challenge_id) for each in one}
    all_over = [
        each
        for each in platform.open_pairs(events)
        if (each.user_id, each.challenge_id) not in taken
    ]
    found = [*one, *all_over[: events - len(one)]]
    random.Random(2).shuffle(found)  # noqa: S311 - no secret
    return found


def publish(platform: Platform, solves: list[Solve], seconds: float) -> list[tuple[float, Solve]]:
    """Commit and publish, spread over the time; return when each was published."""
    began = perf_counter()
    published: list[tuple[float, Solve]] = []
    while len(published) < len(solves):
        due = int((perf_counter() - began) / seconds * len(solves)) if seconds else len(solves)
        some = solves[len(published) : min(due, len(solves))]
        if some:
            platform.commit(some)
            moment = time()
            platform.publish(some)
            published += [(moment, each) for each in some]
        sleep(TICK)
    return published


def latencies(published: list[tuple[float, Solve]], seen: dict[int, list[Seen]]) -> list[float]:
    """Return the seconds until the statistics of each solve's dojo were true for it."""
    found = []
    for moment, solve in published:
        if solve.dojo_id in seen:
            right = [each.written for each in seen[solve.dojo_id] if each.stamp >= moment]
            found.append(min(right) - moment)
    return found


def main() -> None:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="medium")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--seconds", type=float, default=10.0, help="0: all at once")
    options = parser.parse_args()
    with platform_at(options.scale) as (servers, platform):
        _run(platform, servers, options.events, options.seconds)
        print("compared: {}, wrong: {}".format(*asyncio.run(wrong(servers))))


def _run(platform: Platform, servers: embedded.Servers, events: int, seconds: float) -> None:
    [(hottest, _)] = platform.rows(_HOTTEST)
    solves = chosen(platform, hottest, events)
    dojos = {each.dojo_id for each in solves} - {hottest}
    references = {
        dojo: keys.reference_id(dojo, slug, official=bool(official))
        for dojo, slug, official in platform.rows("SELECT dojo_id, id, official FROM dojos")
        if dojo in sorted(dojos)[:WATCHED]
    }
    with Listener(servers.redis_url, references) as listener, Looks(servers.redis_url) as looks:
        began = perf_counter()
        published = publish(platform, solves, seconds)
        spent = perf_counter() - began
        wait(lambda: not platform.cache.xlen(keys.STREAM), "accepted")
        wait(lambda: not platform.owed(*URGENT), "answered")
        answered = perf_counter() - began
        wait(lambda: not platform.owed(*WORK), "exported")
        exported = perf_counter() - began
        sleep(LOOK * 2)
    found = latencies(published, listener.seen)
    print(f"{events} events over {len(dojos) + 1} dojos in {spent:.1f} s, half of them in one")
    print(
        f"quiet dojos, {len(found)} solves in {len(references)} dojos: "
        f"p50 {percentile(found, 50):.1f} ms, p95 {percentile(found, 95):.1f} ms, "
        f"p99 {percentile(found, 99):.1f} ms, the worst {max(found) * 1000:.1f} ms"
    )
    print(f"all answered after {answered:.1f} s, every export fresh after {exported:.1f} s")
    for name, each in sorted(looks.worst.items()):
        print(f"  at the worst {name:<26} {each:10.2f}")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
