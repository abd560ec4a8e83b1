"""Under pressure: solves over all dojos for a while, half of them in one.

For the quiet dojos: the time from publishing to their statistics in the cache. Beside it how far
each class fell behind, and what memory was used.
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

WATCHED = 40  # quiet dojos
LOOK = 0.25  # seconds between two looks at what is owed


class Seen(NamedTuple):
    """A value that was written: when, and the moment that it is true for, in Unix seconds."""

    written: float
    as_of: float


class Listener:
    """Notes when the statistics of some dojos are written."""

    def __init__(self, url: str, references: dict[int, str]) -> None:
        self._client: Any = redis.Redis.from_url(url)
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
        self._client.close()

    def _listen(self) -> None:
        with self._client.pubsub(ignore_subscribe_messages=True) as subscription:
            subscription.subscribe(*self._of)
            while not self._over.is_set():
                message: Any = subscription.get_message(timeout=0.1)
                if message:
                    as_of: Any = self._client.get(message["channel"].split(b":", 1)[1])
                    self.seen[self._of[message["channel"]]].append(Seen(time(), float(as_of)))


class Looks:
    """Looks at what is owed, again and again, and keeps the worst."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.worst: dict[tuple[str, str], float] = defaultdict(float)
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
            ("lag of the stream", "s"): found.queue_stats.lag,
            ("Redis", "MB"): memory["used_memory"] / 2**20,
            ("daemon", "MB"): max((each.memory for each in found.daemons), default=0) / 2**20,
        }
        figures |= {
            (f"overdue, {name}", "s"): each for name, each in found.queue_stats.overdue.items()
        }
        for name, each in figures.items():
            self.worst[name] = max(self.worst[name], each)


def measure(stage: Stage) -> Iterator[Result]:
    """Publish, listen and look."""
    stage.daemon()
    webapp, effort = stage.webapp, stage.effort
    hottest = webapp.hottest()
    solves = _chosen(webapp, hottest, effort.pressure)
    quiet = sorted({each.dojo_id for each in solves} - {hottest})[:WATCHED]
    references = {dojo: each for dojo, each in webapp.references().items() if dojo in quiet}
    url = stage.servers.redis_url
    with Listener(url, references) as listener, Looks(url) as looks:
        published = webapp.at_a_rate(solves, effort.pressure_seconds)
        ended = perf_counter()
        wait(webapp.is_answered, "answered")
        wait(webapp.is_exported, "exported")
        exported = perf_counter() - ended
        sleep(2 * LOOK)  # the last of them is heard and seen
    watched = [(moment, each) for moment, each in published if each.dojo_id in references]
    found = _latencies(watched, listener.seen)
    measured = f"{len(solves):,} solves in {effort.pressure_seconds:g} s, half in one dojo"
    for part in (50, 95, 99):
        yield Result(
            "pressure", f"quiet dojos' stats, p{part}", percentile(found, part), "ms", note=measured
        )
    yield Result("pressure", "last export after the end", exported, "s")
    for (what, unit), each in sorted(looks.worst.items()):
        yield Result("pressure", f"at the worst: {what}", each, unit)


def _chosen(webapp: Webapp, hottest: int, events: int) -> list[Solve]:
    """Return solves, half of them of the hottest dojo, in random order."""
    one = webapp.open_pairs(events // 2, dojo_id=hottest)
    leased = {(each.user_id, each.challenge_id) for each in one}
    all_over = [
        each
        for each in webapp.open_pairs(events)
        if (each.user_id, each.challenge_id) not in leased
    ]
    found = [*one, *all_over[: events - len(one)]]
    random.Random(2).shuffle(found)  # noqa: S311 - no secret
    return found


def _latencies(published: list[tuple[float, Solve]], seen: dict[int, list[Seen]]) -> list[float]:
    """Return the seconds until the statistics of each solve's dojo were true for it."""
    found = []
    for moment, solve in published:
        right = [each.written for each in seen[solve.dojo_id] if each.as_of >= moment]
        found.append(min(right) - moment)
    return found
