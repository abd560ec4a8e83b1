"""When solves arrive in public values: scoreboard arrays and dojo stats."""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from time import time
from typing import Any, NamedTuple, Self

import orjson
import redis

from benchmarks.webapp import Solve
from statsd import keys

# Keyspace notifications of the commands that replace a value.
WRITES = {b"set", b"rename_to"}
SCOREBOARD = "stats:scoreboard:"
ARRAYS = (SCOREBOARD, "stats:crews:", "stats:scores:", "stats:challenge_solves:")
CHANNEL = "__keyspace@0__:"


class Listener:
    """Receives notifications about keys in a thread, while the context is open."""

    def __init__(self, url: str, patterns: Iterable[str]) -> None:
        self.client: Any = redis.Redis.from_url(url)
        self._patterns = [f"{CHANNEL}{each}" for each in patterns]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self.client.config_set("notify-keyspace-events", "K$g")
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()
        self.client.config_set("notify-keyspace-events", "")
        self.client.close()

    def _listen(self) -> None:
        with self.client.pubsub(ignore_subscribe_messages=True) as subscription:
            subscription.psubscribe(*self._patterns)
            while not self._over.is_set():
                message: Any = subscription.get_message(timeout=0.1)
                if message and message["data"] in WRITES:
                    key = message["channel"].decode().removeprefix(CHANNEL)
                    self.written(key, time())

    def written(self, key: str, moment: float) -> None:
        """Note that a key was written."""
        raise NotImplementedError


class WriteCounter(Listener):
    """Counts the writes of arrays."""

    def __init__(self, url: str) -> None:
        super().__init__(url, (f"{each}*" for each in ARRAYS))
        self.counts: Counter[str] = Counter()

    def written(self, key: str, moment: float) -> None:
        """Count the write of a value."""
        del moment
        if not key.endswith(keys.AS_OF):
            self.counts[key] += 1

    def entries(self, counts: Mapping[str, int]) -> int:
        """Return the number of entries in all these writes, from the values' present sizes."""
        return sum(
            times * entries_in(key, self.client.get(key) or b"null")
            for key, times in counts.items()
        )


def entries_in(key: str, raw: bytes) -> int:
    """Return the number of entries in an array: its users, or its challenges."""
    if key.startswith(("stats:scoreboard:", "stats:crews:")):
        return raw.count(b'"user_id":')
    value = orjson.loads(raw) or {}
    return len(value.get("ranks", value))


class Awaited(NamedTuple):
    """A solve that an array does not have yet."""

    moment: float
    """Of the commit, in Unix seconds."""
    solve: Solve
    solves: int
    """The user's solves in the array before."""


class Arrivals(Listener):
    """Notes when the whole scoreboard and the stats of a dojo have a solve."""

    def __init__(self, url: str, solves: Iterable[Solve], references: Mapping[int, str]) -> None:
        self.arrays: list[float] = []
        self.stats: list[float] = []
        """Seconds from the commit."""
        self.awaited: dict[str, list[Awaited]] = defaultdict(list)
        self._references = references
        self._before = {}
        dojos: dict[int, list[Solve]] = defaultdict(list)
        for each in solves:
            dojos[each.dojo_id].append(each)
        super().__init__(
            url,
            [
                keys.updated(key)
                for dojo_id in dojos
                for key in (keys.scoreboard(dojo_id), keys.dojo_stats(references[dojo_id]))
            ],
        )
        for dojo_id, own in dojos.items():
            raw = self.client.get(keys.scoreboard(dojo_id)) or b"[]"
            for each in own:
                self._before[each] = solves_of(raw, each.user_id)

    def expect(self, moment: float, solve: Solve) -> None:
        """Await a solve, if it is one of those that are measured."""
        if solve in self._before:
            awaited = Awaited(moment, solve, self._before[solve])
            self.awaited[keys.scoreboard(solve.dojo_id)].append(awaited)
            self.awaited[keys.dojo_stats(self._references[solve.dojo_id])].append(awaited)

    def written(self, key: str, moment: float) -> None:
        """Note the arrival of solves in a value whose as-of was written."""
        value = key.removesuffix(keys.AS_OF)
        if not self.awaited[value]:
            return
        as_of = float(self.client.get(key) or 0)
        new = [each for each in self.awaited[value] if each.moment <= as_of]
        if new and value.startswith(SCOREBOARD):
            raw = self.client.get(value) or b"[]"
            new = [each for each in new if solves_of(raw, each.solve.user_id) > each.solves]
        found = self.arrays if value.startswith(SCOREBOARD) else self.stats
        for each in new:
            self.awaited[value].remove(each)
            found.append(moment - each.moment)

    def is_over(self) -> bool:
        """Return whether all awaited solves have arrived."""
        return not any(self.awaited.values())


def solves_of(raw: bytes, user_id: int) -> int:
    """Return a user's solves in the JSON of a scoreboard, which is too long to parse it often."""
    place = raw.find(b'"user_id":%d,' % user_id)
    if place < 0:
        place = raw.find(b'"user_id":%d}' % user_id)
    if place < 0:
        return 0
    entry = raw[raw.rfind(b"{", 0, place) : raw.find(b"}", place) + 1]
    try:
        return int(orjson.loads(entry)["solves"])
    except orjson.JSONDecodeError:  # there are braces in the name
        entries = orjson.loads(raw)
        return next(int(each["solves"]) for each in entries if each["user_id"] == user_id)
