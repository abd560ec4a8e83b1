"""From an award to its cached value: belts and emojis, each a single value for the platform.

First single awards: the time from the event until the value has the award. The floor is the bare
statement, JSON and write. Then many awards at once.
"""

import statistics
from collections.abc import Iterator
from time import perf_counter, sleep, time
from typing import Any

import orjson
import psycopg2.extras

from benchmarks import floors
from benchmarks.idle import PAUSE
from benchmarks.result import Result
from benchmarks.stage import Stage
from benchmarks.waiting import wait
from benchmarks.webapp import Webapp
from statsd import keys

AT_ONCE = 40  # awards at once, for each single award
EVENTS = {"belts": "belts_update", "emojis": "emojis_update"}
KEYS = {"belts": keys.BELTS, "emojis": keys.EMOJIS}
GRANT = """
INSERT INTO awards (user_id, type, name, icon, category, description, date)
SELECT u, t, n, 'new', 'new', '', now() AT TIME ZONE 'UTC' FROM (VALUES %s) AS given (u, t, n)
"""


class Awards:
    """Grants awards of one kind to users, and publishes events like a web application."""

    def __init__(self, webapp: Webapp, kind: str, users: list[int]) -> None:
        self._webapp = webapp
        self._kind = kind
        self._users = users

    def grant(self, count: int) -> list[int]:
        """Commit awards, one for each user; return the users."""
        users, self._users = self._users[:count], self._users[count:]
        award = {"belts": ("belt", "black"), "emojis": ("emoji", "CURRENT")}[self._kind]
        with self._webapp.database.cursor() as cursor:
            psycopg2.extras.execute_values(cursor, GRANT, [(user, *award) for user in users])
        return users

    def publish(self, count: int = 1) -> None:
        """Publish `count` events."""
        data = orjson.dumps({"type": EVENTS[self._kind]})
        with self._webapp.cache.pipeline(transaction=False) as pipeline:
            for _ in range(count):
                pipeline.xadd(keys.STREAM, {"data": data})
            pipeline.execute()

    def has(self, user: int) -> bool:
        """Return whether the cached value has a user's new award."""
        value = orjson.loads(self._webapp.cache.get(KEYS[self._kind]) or b"{}")
        if self._kind == "belts":
            return str(user) in value["dates"]["black"]
        return any(each["category"] == "new" for each in value["emojis"].get(str(user), ()))

    def cooldown_is_over(self) -> bool:
        """Return whether the cooldown of the job is over."""
        until: Any = self._webapp.cache.hget(keys.COOLDOWNS, self._kind)
        return int(until or 0) < time() * 1_000_000


def measure(stage: Stage) -> Iterator[Result]:
    """Measure belts, then emojis."""
    stage.daemon()
    users = [
        user for (user,) in stage.webapp.rows("SELECT id FROM users WHERE NOT hidden ORDER BY id")
    ]
    for kind in EVENTS:
        awards = Awards(stage.webapp, kind, users)
        latencies, floor = _idle(stage, awards, kind)
        yield Result(
            "awards",
            f"event to {kind}, p50",
            statistics.median(latencies) * 1000,
            "ms",
            statistics.median(floor) * 1000,
        )
        seconds = _burst(stage, awards)
        yield Result(
            "awards", f"{AT_ONCE * stage.effort.awards} at once to {kind}", seconds * 1000, "ms"
        )


def _idle(stage: Stage, awards: Awards, kind: str) -> tuple[list[float], list[float]]:
    """Grant single awards; return the seconds until the value has each, and the floors."""
    latencies, floor = [], []
    for _ in range(stage.effort.awards):
        wait(awards.cooldown_is_over, "the end of the cooldown")
        with stage.webapp.changes(KEYS[kind]) as next_change:
            [user] = awards.grant(1)
            began = perf_counter()
            awards.publish()
            latencies.append(next_change(KEYS[kind]) - began)
        if not awards.has(user):
            raise AssertionError("the value was written without the award")
        wait(stage.webapp.is_idle, "an empty queue")
        sleep(PAUSE)
        began = perf_counter()
        rows = [stage.webapp.rows(each) for each in floors.statements(kind)]
        stage.webapp.cache.set("floor:awards", orjson.dumps(rows, default=str))
        floor.append(perf_counter() - began)
    stage.webapp.cache.delete("floor:awards")
    return latencies, floor


def _burst(stage: Stage, awards: Awards) -> float:
    """Grant many awards at once; return the seconds until the value has all of them."""
    wait(awards.cooldown_is_over, "the end of the cooldown")
    *_, last = awards.grant(AT_ONCE * stage.effort.awards)
    awards.publish(AT_ONCE * stage.effort.awards)
    return wait(lambda: awards.has(last), "all awards")
