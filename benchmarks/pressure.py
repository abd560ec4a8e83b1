"""Load over all dojos for some seconds, with half of the solves in one dojo.

The figures are the time from publishing to the cached statistics of the quiet dojos, the maximum
delay of each class, and the maximum memory.
"""

import asyncio
import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from time import perf_counter, sleep, time
from typing import Any, NamedTuple, Self

import redis
from redis.asyncio import Redis

from benchmarks.idle import percentile
from benchmarks.result import Result
from benchmarks.stage import Stage
from benchmarks.waiting import wait
from benchmarks.webapp import Solve, Webapp
from statsd import keys
from statsd.observability.status import Status, status

QUIET_DOJOS = 40
READ_INTERVAL = 0.25  # seconds between two reads of the queue stats


class Write(NamedTuple):
    """A write of a value: its time and the value's as-of, in Unix seconds."""

    written: float
    as_of: float


class WriteListener:
    """Records the writes of the statistics of some dojos, in a thread."""

    def __init__(self, url: str, references: dict[int, str]) -> None:
        self._client: Any = redis.Redis.from_url(url)
        self._dojo_by_channel = {
            f"__keyspace@0__:{keys.updated(keys.dojo_stats(each))}".encode(): dojo_id
            for dojo_id, each in references.items()
        }
        self.writes: dict[int, list[Write]] = defaultdict(list)
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
        self._client.close()

    def _listen(self) -> None:
        with self._client.pubsub(ignore_subscribe_messages=True) as subscription:
            subscription.subscribe(*self._dojo_by_channel)
            while not self._over.is_set():
                message: Any = subscription.get_message(timeout=0.1)
                if message:
                    as_of: Any = self._client.get(message["channel"].split(b":", 1)[1])
                    dojo_id = self._dojo_by_channel[message["channel"]]
                    self.writes[dojo_id].append(Write(time(), float(as_of)))


class Maxima:
    """Reads queue stats and memory again and again, in a thread, and keeps the maxima."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.found: dict[tuple[str, str], float] = defaultdict(float)
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._read()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    async def _read(self) -> None:
        async with Redis.from_url(self._url) as client:
            while not self._over.wait(READ_INTERVAL):
                self._keep(await status(client), await client.info("memory"))

    def _keep(self, found: Status, memory: Any) -> None:
        figures = {
            ("lag of the stream", "s"): found.queue_stats.lag,
            ("Redis", "MB"): memory["used_memory"] / 2**20,
            ("daemon", "MB"): max((each.memory for each in found.daemons), default=0) / 2**20,
        }
        figures |= {
            (f"overdue, {name}", "s"): each for name, each in found.queue_stats.overdue.items()
        }
        for name, each in figures.items():
            self.found[name] = max(self.found[name], each)


def measure(stage: Stage) -> Iterator[Result]:
    """Publish the solves at a rate; measure latencies and maxima meanwhile."""
    stage.daemon()
    webapp, effort = stage.webapp, stage.effort
    busiest = webapp.busiest()
    solves = _chosen(webapp, busiest, effort.pressure)
    quiet = sorted({each.dojo_id for each in solves} - {busiest})[:QUIET_DOJOS]
    references = {dojo: each for dojo, each in webapp.references().items() if dojo in quiet}
    url = stage.servers.redis_url
    with WriteListener(url, references) as listener, Maxima(url) as maxima:
        published = webapp.at_a_rate(solves, effort.pressure_seconds)
        ended = perf_counter()
        wait(webapp.is_answered, "the answers")
        wait(webapp.is_exported, "the exports")
        exported = perf_counter() - ended
        sleep(2 * READ_INTERVAL)  # until both threads have the last writes
    of_quiet = [(moment, each) for moment, each in published if each.dojo_id in references]
    found = _latencies(of_quiet, listener.writes)
    measured = f"{len(solves):,} solves in {effort.pressure_seconds:g} s, half in one dojo"
    for part in (50, 95, 99):
        yield Result(
            "pressure", f"quiet dojos' stats, p{part}", percentile(found, part), "ms", note=measured
        )
    yield Result("pressure", "last export after the end", exported, "s")
    for (name, unit), each in sorted(maxima.found.items()):
        yield Result("pressure", f"maximum: {name}", each, unit)


def _chosen(webapp: Webapp, busiest: int, events: int) -> list[Solve]:
    """Return solves in random order, half of them in the busiest dojo."""
    one = webapp.open_pairs(events // 2, dojo_id=busiest)
    chosen = {(each.user_id, each.challenge_id) for each in one}
    all_over = [
        each
        for each in webapp.open_pairs(events)
        if (each.user_id, each.challenge_id) not in chosen
    ]
    found = [*one, *all_over[: events - len(one)]]
    random.Random(2).shuffle(found)  # noqa: S311 - no secret
    return found


def _latencies(published: list[tuple[float, Solve]], writes: dict[int, list[Write]]) -> list[float]:
    """Return the seconds from each publishing until the statistics of its dojo include it."""
    found = []
    for moment, solve in published:
        including = [each.written for each in writes[solve.dojo_id] if each.as_of >= moment]
        found.append(min(including) - moment)
    return found
