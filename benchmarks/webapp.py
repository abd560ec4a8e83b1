"""A web application: it commits solves, publishes their events, and reads cached values."""

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, sleep, time
from typing import Any, NamedTuple

import orjson
import psycopg2
import psycopg2.extras
import redis

from benchmarks.waiting import CHECK_INTERVAL, DEADLINE, check_daemons
from statsd import keys
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.user_entries import UserEntries, solves_in
from statsd.dev import embedded
from statsd.job import Priority

TICK = 0.02  # seconds between two transactions of a stream of solves
URGENT = (Priority.MISSED, Priority.INTERACTIVE, Priority.ORDINARY)
LIVE = {UserEntries.kind, DojoStats.kind}
MANY_JOBS = 1000  # with more urgent jobs pending, single jobs are not examined
HOUSEKEEPING = {"audit", "containers", "missed_solves"}


class Solve(NamedTuple):
    """A solve that is not in the database yet, with one of the dojos that count it."""

    user_id: int
    challenge_id: int
    dojo_id: int


class Webapp:
    """Writes to the database and to the stream."""

    def __init__(self, servers: embedded.EmbeddedServers) -> None:
        self.cache: Any = redis.Redis.from_url(servers.redis_url)
        self.database = psycopg2.connect(servers.database_url)
        self.database.autocommit = True

    def close(self) -> None:
        """Close the connections."""
        self.cache.close()
        self.database.close()

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        with self.database.cursor() as cursor:
            cursor.execute(statement, parameters)
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found

    def references(self) -> dict[int, str]:
        """Return the reference ids of all dojos."""
        return {
            dojo: keys.reference_id(dojo, slug, official=bool(official))
            for dojo, slug, official in self.rows("SELECT dojo_id, id, official FROM dojos")
        }

    def open_pairs(self, count: int, *, dojo_id: int | None = None) -> list[Solve]:
        """Choose `count` new solves in public dojos or in one dojo, at most half of all possible.

        The same database gives the same choice.
        """
        chance = random.Random(1)  # noqa: S311 - no secret
        rows = self.rows(_CHALLENGES, dojo_id, dojo_id)
        users = [user for (user,) in self.rows(_USERS)]
        challenges = {challenge: dojo for dojo, challenge in rows}
        solved = set(self.rows(_SOLVED, list(challenges)))
        pairs: dict[tuple[int, int], Solve] = {}
        choices = list(challenges)
        most = (len(users) * len(choices) - len(solved)) // 2
        while len(pairs) < min(count, most):
            user, challenge = chance.choice(users), chance.choice(choices)
            if (challenge, user) not in solved:
                pairs[challenge, user] = Solve(user, challenge, challenges[challenge])
        return list(pairs.values())

    def busiest(self) -> int:
        """Return the dojo with the most solves."""
        [(dojo_id, _)] = self.rows(_BUSIEST)
        return int(dojo_id)

    def commit(self, solves: list[Solve]) -> None:
        """Write solves, a thousand in each transaction."""
        values = [(each.user_id, each.challenge_id) for each in solves]
        with self.database.cursor() as cursor:
            psycopg2.extras.execute_values(cursor, _INSERT, values, page_size=1000)

    def publish(self, solves: list[Solve], stream: str = keys.STREAM) -> None:
        """Publish the events of solves."""
        with self.cache.pipeline(transaction=False) as pipeline:
            for each in solves:
                payload = {"user_id": each.user_id, "challenge_id": each.challenge_id}
                data = orjson.dumps({"type": "challenge_solve", "payload": payload})
                pipeline.xadd(stream, {"data": data})
            pipeline.execute()

    def at_a_rate(self, solves: list[Solve], seconds: float) -> list[tuple[float, Solve]]:
        """Commit and publish solves evenly over some seconds.

        Returns each solve with the time of its publishing, in Unix seconds.
        """
        began = perf_counter()
        published: list[tuple[float, Solve]] = []
        while len(published) < len(solves):
            due = int((perf_counter() - began) / seconds * len(solves))
            part = solves[len(published) : min(due, len(solves))]
            if part:
                self.commit(part)
                moment = time()
                self.publish(part)
                published += [(moment, each) for each in part]
            sleep(TICK)
        return published

    @contextmanager
    def changes(self, *names: str) -> Iterator[Callable[[str], float]]:
        """Yield a function that waits for the next change of one of the keys.

        It returns the time of the change, as `perf_counter` counts. The changes come as Redis
        notifications, because polling would use processor time.
        """
        self.cache.config_set("notify-keyspace-events", "K$z")
        with self.cache.pubsub(ignore_subscribe_messages=True) as subscription:
            subscription.subscribe(*(f"__keyspace@0__:{name}" for name in names))
            for _ in names:
                subscription.get_message(timeout=DEADLINE)  # the confirmation of the subscription
            changed: dict[str, deque[float]] = {name: deque() for name in names}

            def next_change(name: str) -> float:
                began = perf_counter()
                while not changed[name]:
                    message = subscription.get_message(timeout=CHECK_INTERVAL)
                    if message:
                        key = message["channel"].decode().split(":", 1)[1]
                        changed[key].append(perf_counter())
                        continue
                    check_daemons()
                    if perf_counter() - began > DEADLINE:
                        raise TimeoutError(f"not within {DEADLINE:.0f} s: a change of {name}")
                return changed[name].popleft()

            yield next_change
        self.cache.config_set("notify-keyspace-events", "")

    def pending(self, *classes: Priority) -> int:
        """Return the number of pending jobs in some classes."""
        return sum(int(self.cache.zcard(keys.due(each))) for each in classes)

    def is_answered(self) -> bool:
        """Return whether all events are accepted, and boards and statistics include them."""
        if self.cache.xlen(keys.STREAM) or self.pending(*URGENT) > MANY_JOBS:
            return False
        live = [name for name in self.pending_names() if name.partition(":")[0] in LIVE]
        return not self._any_for_events(live)

    def pending_names(self) -> list[str]:
        """Return the names of all pending jobs, except those that run at intervals."""
        with self.cache.pipeline(transaction=False) as pipeline:
            for each in Priority:
                pipeline.zrange(keys.due(each), 0, -1)
            found = [name.decode() for names in pipeline.execute() for name in names]
        return [name for name in found if name.partition(":")[0] not in HOUSEKEEPING]

    def _any_for_events(self, names: list[str]) -> bool:
        """Return whether any of these jobs was enqueued for an event."""
        with self.cache.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hmget(keys.job(name), "since", "deferred_since")
            return any(map(any, pipeline.execute()))

    def is_exported(self) -> bool:
        """Return whether the exported values include all events, too.

        Jobs that are pending because of the date do not count: in a large database a solve leaves
        a window at every moment.
        """
        return self.is_answered() and not self._any_for_events(self.pending_names())

    def is_idle(self) -> bool:
        """Return whether no job runs, is delayed, or is pending for an event or a cold start.

        Jobs that are pending because of the date do not count, until they run. A large job uses a
        core for seconds, and would disturb the next measure.
        """
        is_started = not self.pending(Priority.BACKGROUND)
        has_work = self.cache.exists(keys.DELAYED, keys.LEASES)
        return is_started and not has_work and self.is_exported()

    def is_filled(self) -> bool:
        """Return whether a cold start is done: every pending job was completed before."""
        if self.pending(Priority.BACKGROUND):
            return False
        names = [
            name for name in self.pending_names() if not name.startswith(f"{UserEntries.kind}:")
        ]
        return not names or None not in self.cache.hmget(keys.LAST_RUNS, names)

    def solves_on_board(self, dojo_id: int, user_id: int) -> int:
        """Return the number of a user's solves on the live board of a dojo."""
        found = self.cache.zscore(f"{keys.boards(dojo_id)}:{keys.DOJO}:0", str(user_id))
        return solves_in(int(found)) if found else 0

    def solves_in_stats(self, reference: str) -> int:
        """Return the number of solves in a dojo's statistics."""
        return int(orjson.loads(self.cache.get(keys.dojo_stats(reference)) or b"{}")["solves"])

    def as_of(self, key: str) -> float:
        """Return the as-of of a value in Unix seconds, 0 if there is no value."""
        return float(self.cache.get(keys.updated(key)) or 0)


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
_BUSIEST = """
SELECT dc.dojo_id, count(*) FROM dojo_challenges dc JOIN dojos d USING (dojo_id)
JOIN submissions s ON s.challenge_id = dc.challenge_id AND s.type = 'correct'
WHERE dc.required AND (d.official OR d.data ->> 'type' = 'public')
GROUP BY 1 ORDER BY 2 DESC LIMIT 1
"""
