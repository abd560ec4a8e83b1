"""A web application: it commits solves, publishes their events, and reads cached values."""

import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from time import perf_counter, sleep, time
from typing import Any, NamedTuple

import orjson
import psycopg2
import psycopg2.extras
import redis
import sqlalchemy as sa

from benchmarks.waiting import CHECK_INTERVAL, DEADLINE, check_daemons
from statsd import keys
from statsd.client import Reader
from statsd.dev import embedded
from statsd.job import Priority

TICK = 0.02  # seconds between two transactions of a stream of solves
PAGE = 500  # keys
URGENT = (Priority.MISSED, Priority.INTERACTIVE, Priority.ORDINARY)
MANY_JOBS = 1000  # with more urgent jobs pending, single jobs are not examined
TRIES = 100  # random choices of new solves
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
        url = sa.make_url(servers.database_url).set(drivername="postgresql+psycopg2")
        self.engine = sa.create_engine(url)
        self.reader = Reader.from_url(self.engine, servers.redis_url, fallback=False)

    def close(self) -> None:
        """Close the connections."""
        self.reader.close()
        self.engine.dispose()
        self.cache.close()
        self.database.close()

    def rows(self, statement: str, *parameters: Any, **named: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, whose parameters have positions or names."""
        with self.database.cursor() as cursor:
            cursor.execute(statement, parameters or named)
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found

    def references(self) -> dict[int, str]:
        """Return the reference ids of all dojos."""
        return {
            dojo: keys.reference_id(dojo, slug, official=bool(official))
            for dojo, slug, official in self.rows("SELECT dojo_id, id, official FROM dojos")
        }

    def expected_keys(self) -> dict[str, list[str]]:
        """Return the public keys that exist after a cold start, by the word after `stats:`."""
        scopes: list[tuple[int, int | None]] = [
            *((dojo, None) for (dojo,) in self.rows("SELECT dojo_id FROM dojos")),
            *self.rows("SELECT dojo_id, module_index FROM dojo_modules"),
        ]
        is_open = {dojo for (dojo,) in self.rows(_OPEN)}
        return {
            "dojo": [*map(keys.dojo_stats, self.references().values())],
            "scoreboard": [keys.scoreboard(*each, days) for each in scopes for days in (0, 7, 30)],
            "crews": [keys.crews(*each, days) for each in scopes for days in (0, 7, 30)],
            "scores": [keys.scores(*each) for each in scopes if each[0] in is_open],
            "challenge_solves": [
                keys.challenge_solves(dojo, index) for dojo, index in scopes if index is not None
            ],
            "activity": [keys.activity(user) for (user,) in self.rows(_ACTIVE)],
            "belts": [keys.BELTS],
            "emojis": [keys.EMOJIS],
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

    def likely_pairs(self, count: int) -> list[Solve]:
        """Choose `count` new solves of public dojos, of challenges as likely as in the history.

        There are fewer only if random choices do not find as many. The same database gives the
        same choice.
        """
        chance = random.Random(4)  # noqa: S311 - no secret
        dojos: dict[int, list[int]] = defaultdict(list)
        for dojo_id, challenge in self.rows(_CHALLENGES, None, None):
            dojos[challenge].append(dojo_id)
        users = [user for (user,) in self.rows(_USERS)]
        [(last,)] = self.rows("SELECT max(id) FROM submissions")
        pairs: dict[tuple[int, int], Solve] = {}
        for _ in range(TRIES):
            ids = [chance.randint(1, last) for _ in range(4 * count)]
            solved = [each for (each,) in self.rows(_CHALLENGES_OF, ids) if each in dojos]
            chance.shuffle(solved)
            chosen = [chance.choice(users) for _ in solved]
            for challenge, user in self.rows(_NEW, solved, chosen):
                of = chance.choice(dojos[challenge])
                pairs.setdefault((challenge, user), Solve(user, challenge, of))
            if len(pairs) >= count:
                break
        return list(pairs.values())[:count]

    def touched(self, solves: Sequence[Solve]) -> float:
        """Return how many dojos a solve counts in, or stands in the scores of, on average."""
        users, challenges = zip(
            *((each.user_id, each.challenge_id) for each in solves), strict=True
        )
        [(count,)] = self.rows(_TOUCHED, [*challenges], [*users])
        return int(count) / len(solves)

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

    def at_a_rate(
        self,
        solves: list[Solve],
        seconds: float,
        tell: Callable[[float, Solve], None] = lambda _moment, _solve: None,
    ) -> list[tuple[float, Solve]]:
        """Commit and publish solves evenly over some seconds.

        Returns each solve with the time of its publishing, in Unix seconds. `tell` is called with
        that time and the solve, before.
        """
        began = perf_counter()
        published: list[tuple[float, Solve]] = []
        while len(published) < len(solves):
            due = int((perf_counter() - began) / seconds * len(solves))
            part = solves[len(published) : min(due, len(solves))]
            if part:
                moment = self.solved(part, tell)
                published += [(moment, each) for each in part]
            sleep(TICK)
        return published

    def solved(self, solves: list[Solve], tell: Callable[[float, Solve], None]) -> float:
        """Commit and publish solves, and `tell` between both; return the time of the commit."""
        self.commit(solves)
        moment = time()
        for each in solves:
            tell(moment, each)
        self.publish(solves)
        return moment

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
        return not self._any_for_events(self.pending_names(*URGENT))

    def pending_names(self, *classes: Priority) -> list[str]:
        """Return the names of the pending jobs in some classes, by default in all.

        Jobs that run at intervals are left out.
        """
        with self.cache.pipeline(transaction=False) as pipeline:
            for each in classes or Priority:
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
_OPEN = "SELECT dojo_id FROM dojos WHERE official OR data ->> 'type' = 'public'"
_ACTIVE = """
SELECT DISTINCT user_id FROM submissions
WHERE type = 'correct' AND user_id IS NOT NULL
  AND date > now() AT TIME ZONE 'UTC' - interval '364 days'
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
_CHALLENGES_OF = """
SELECT challenge_id FROM submissions
WHERE id = ANY(%s) AND type = 'correct' AND user_id IS NOT NULL ORDER BY id
"""
_NEW = """
SELECT given.c, given.u FROM unnest(%s::int[], %s::int[]) WITH ORDINALITY AS given (c, u, i)
WHERE NOT EXISTS (
    SELECT FROM submissions WHERE challenge_id = given.c AND user_id = given.u AND type = 'correct'
)
ORDER BY given.i
"""
_TOUCHED = """
SELECT count(DISTINCT (dc.dojo_id, given.u, given.c))
FROM unnest(%s::int[], %s::int[]) AS given (c, u)
JOIN dojo_challenges dc ON dc.challenge_id = given.c
JOIN dojos d USING (dojo_id) JOIN dojo_modules USING (dojo_id, module_index)
WHERE d.official OR d.data ->> 'type' = 'public'
   OR EXISTS (SELECT FROM dojo_users du WHERE du.dojo_id = dc.dojo_id AND du.user_id = given.u)
"""
_BUSIEST = """
SELECT dc.dojo_id, count(*) FROM dojo_challenges dc JOIN dojos d USING (dojo_id)
JOIN submissions s ON s.challenge_id = dc.challenge_id AND s.type = 'correct'
WHERE dc.required AND (d.official OR d.data ->> 'type' = 'public')
GROUP BY 1 ORDER BY 2 DESC LIMIT 1
"""


class Presence:
    """Watches for the existence of keys, which is lasting: it looks at each key until it exists."""

    def __init__(self, cache: Any, names: Sequence[str]) -> None:
        self._cache = cache
        self._missing = deque(names)

    def is_complete(self) -> bool:
        """Return whether all keys have existed."""
        while self._missing:
            page = [*islice(self._missing, PAGE)]
            if self._cache.exists(*page) < len(page):
                return False
            for _ in page:
                self._missing.popleft()
        return True
