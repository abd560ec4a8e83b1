"""A scenario: servers, a web application under load, daemons, faults, and the check at the end."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, NamedTuple

import orjson
import redis
import sqlalchemy as sa
from sqlalchemy.orm import sessionmaker

from statsd import keys, schema
from statsd.addresses.redis_clients import sync_client
from statsd.client import listen
from statsd.dev import embedded
from tests.faults.figures import (
    Figures,
    Unfinished,
    compare,
    drifted,
    lost_changes,
    unfinished,
    watermark_of,
)
from tests.faults.form import OUTAGE, SEED, pass_time
from tests.faults.load import Load, Recorder
from tests.support.processes import Daemon, eventually
from tests.support.webapp import WebApp

COMPLETE = 180.0  # seconds until every job is answered, on a busy machine
HEAL = 240.0  # seconds until every change without an event is found

DAEMON = "statsd"  # the daemon's role

# The daemon has a role of its own, which identifies its sessions and may only read.
ROLE = """
CREATE ROLE statsd LOGIN;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO statsd;
CREATE SCHEMA faults;
GRANT USAGE ON SCHEMA faults TO statsd;
ALTER ROLE statsd SET search_path = faults, public;
"""

BLOCKED = """
SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE usename = 'statsd' AND NOT granted
"""

NEWEST = "SELECT coalesce(max(id), 0) FROM submissions"
ADD_DOJOS = """
WITH many AS (
  INSERT INTO dojos (dojo_id, id, official, data)
  SELECT n, 'added-' || n, n % 2 = 0, '{"type": "public"}' FROM generate_series(1, :number) n
  RETURNING dojo_id
), modules AS (
  INSERT INTO dojo_modules (dojo_id, module_index, id) SELECT dojo_id, 0, 'm' FROM many
)
INSERT INTO dojo_challenges (dojo_id, module_index, challenge_index, challenge_id, id)
SELECT dojo_id, 0, index, 1 + (dojo_id + index) % (SELECT max(id) FROM challenges), 'c' || index
FROM many, generate_series(0, 1) index
"""
ADD_SOLVES = """
WITH others AS (
  INSERT INTO users (name, hidden)
  SELECT 'other ' || n, n % 10 = 0
  FROM generate_series(1, :number / (SELECT max(id) FROM challenges)) n
  RETURNING id
)
INSERT INTO submissions (challenge_id, user_id, date, type)
SELECT challenges.id, others.id, now() AT TIME ZONE 'UTC' - random() * interval '70 days', 'correct'
FROM challenges, others
"""


class Addresses(NamedTuple):
    """The URLs by which the programs under test reach the servers."""

    daemon_database: str
    daemon_redis: str
    web_database: str
    web_redis: str


def direct(servers: embedded.EmbeddedServers) -> Addresses:
    """Return the servers' own addresses; the daemon has its role."""
    role = sa.make_url(servers.database_url).set(username=DAEMON)
    database = role.render_as_string(hide_password=False)
    return Addresses(database, servers.redis_url, servers.database_url, servers.redis_url)


class Rights(NamedTuple):
    """Statements that create the daemon's role, before and after the tables are created."""

    before: str
    after: str = ""


class Site:
    """The servers, daemons, faults and measurements of one scenario."""

    def __init__(
        self,
        servers: embedded.EmbeddedServers,
        folder: Path,
        scenario: str,
        say: Callable[[str], None],
        *,
        addresses: Addresses | None = None,
        cache: "redis.Redis | None" = None,
        rights: Rights = Rights(ROLE),  # noqa: B008 - it is immutable
    ) -> None:
        """Create the tables; without `addresses`, the programs reach the servers directly.

        `cache` is the test's own client of Redis.
        """
        self.servers = servers
        self.addresses = addresses or direct(servers)
        self.scenario = scenario
        self.chance = Random(f"{SEED} {scenario}")
        self.faults: Counter[str] = Counter()
        self.notes: list[str] = []
        self.losses = 0
        """Changes whose events the test did not publish."""
        self._say = say
        self._folder = folder
        self._numbers = count(1)
        self._began = monotonic()
        self._daemons: list[Daemon] = []
        self.finished = False
        self.output: int | None = None
        """A descriptor for the output of daemons, in place of a file for each."""
        self.cache = cache or redis.Redis.from_url(servers.redis_url)
        self.publisher = Recorder(sync_client(self.addresses.web_redis, {}))
        self.publisher.notes = []
        url = sa.make_url(self.addresses.web_database).set(drivername="postgresql+psycopg2")
        self.webapp = WebApp(sa.create_engine(url, pool_pre_ping=True))
        self.silent = sessionmaker(self.webapp.engine, expire_on_commit=False)
        """Sessions whose commits publish no events."""
        self.execute(rights.before)
        schema.metadata.create_all(self.webapp.engine)
        if rights.after:
            self.execute(rights.after)
        self.load = Load(self.webapp, self.chance)
        self.quiet = self.webapp.create_dojo(challenges=1)
        """A dojo that the load does not change, for measurements."""
        [self._quiet_challenge] = self.webapp.challenge_ids(self.quiet)
        self._probes = 0
        self._forget = listen(self.webapp.sessions, self.publisher)

    def execute(self, statement: str, **parameters: object) -> list[Any]:
        """Execute a statement as the database's owner; return its rows."""
        with self.webapp.engine.begin() as connection:
            result = connection.execute(sa.text(statement), parameters)
            return list(result) if result.returns_rows else []

    def add_rows(self, *, dojos: int = 0, solves: int = 0) -> None:
        """Add dojos of two challenges each, and other users' solves of the load's challenges."""
        self.execute(ADD_DOJOS, number=dojos)
        self.execute(ADD_SOLVES, number=solves)

    # --- daemons

    def variables(self, suffix: str = "", **settings: str) -> dict[str, str]:
        """Return a daemon's settings, with short leases and a frequent audit."""
        return {
            "DATABASE_URL": self.addresses.daemon_database,
            "REDIS_URL": self.addresses.daemon_redis,
            "STATSD_CONSUMER_SUFFIX": suffix,
            "STATSD_LEASE": "2",
            "STATSD_AUDIT_INTERVAL": "1",
        } | settings

    def start(
        self, suffix: str = "", *, program: Sequence[str] = ("-m", "statsd"), **settings: str
    ) -> Daemon:
        """Start a daemon."""
        # The number makes the name unique: an earlier daemon may have had the same suffix.
        log = self._folder / f"daemon-{next(self._numbers)}-{suffix}.log"
        daemon = Daemon(log, self.variables(suffix, **settings), program, self.output)
        self._daemons.append(daemon)
        return daemon

    def kill(self, daemon: Daemon) -> None:
        """Kill a daemon with SIGKILL."""
        daemon.stop(signal.SIGKILL)
        self._daemons.remove(daemon)
        self.faults["kills"] += 1

    def stop(self, daemon: Daemon) -> tuple[int, float]:
        """Send SIGTERM to a daemon; return its exit code and the seconds until its end."""
        began = monotonic()
        self._daemons.remove(daemon)
        self.faults["stops"] += 1
        return daemon.stop(), monotonic() - began

    # --- faults

    def outage(self, server: embedded.Server, *, fresh: bool = False) -> None:
        """Stop a server for a while, under load; with `fresh` it starts empty."""
        pass_time(1.0)
        server.stop()
        pass_time(OUTAGE)
        server.start(fresh=fresh)
        self.faults["outages"] += 1

    def crash(self, server: embedded.Server) -> None:
        """Kill a server at a random moment, and start it again at once."""
        pass_time(self.chance.uniform(0.5, 1.0))
        server.stop(signal.SIGKILL)
        server.start()
        self.faults["crashes"] += 1

    def probe(self) -> float:
        """Solve in the quiet dojo; return the seconds until the solve is in the cached value."""
        self._probes += 1
        user = self.webapp.create_user()
        began = monotonic()
        self.webapp.solve(user, self._quiet_challenge)
        eventually(self._has_probes, "the solve is in the value", COMPLETE)
        return monotonic() - began

    def _has_probes(self) -> bool:
        with suppress(redis.ConnectionError):
            raw: Any = self.cache.get(keys.dojo_stats(self.quiet.reference_id))
            return bool(raw and orjson.loads(raw)["solves"] == self._probes)
        return False

    # --- the end

    def _dead_letters(self) -> list[dict[bytes, bytes]]:
        found: Any = self.cache.xrange(keys.DEAD_LETTERS)
        return [letter for _, letter in found]

    @property
    def unpublished_changes(self) -> int:
        """The number of changes that have, or may have, no published event."""
        return self.losses + self.publisher.failed + self.load.unanswered

    def newest(self) -> int:
        """Return the largest id of a submission."""
        return int(self.execute(NEWEST)[0][0])

    def has_wrong_values(self) -> bool:
        """Return whether a cached value differs from the full calculation."""
        return bool(compare(self.webapp.engine, self.cache)[1])

    def complete(self, *, heals: bool = False, within: float | None = None) -> float:
        """Wait until no entry is unread or pending and no job is due soon; return the seconds.

        `heals` means that the fault has deleted pending jobs, so that an empty queue proves little.
        Then wait also until the values are right, and the search has examined all solves.
        """
        began = monotonic()
        heals = heals or self.unpublished_changes > 0

        def completed() -> bool:
            # Read before the queue: the step that clears a suspect also enqueues its jobs. They
            # are among the jobs that are counted next.
            low = watermark_of(self.cache)
            if low is None or unfinished(self.cache) != Unfinished(0, 0, 0):
                return False
            return not heals or (low >= self.newest() and not self.has_wrong_values())

        eventually(completed, "all jobs are answered", within or (HEAL if heals else COMPLETE))
        return monotonic() - began

    def finish(self, *, heals: bool = False, within: float | None = None, dead: int = 0) -> Figures:
        """End the scenario: assert that every value is right, and nothing is pending or lost.

        Wait for the jobs (see `complete`), stop the daemons, report the figures and check them.
        `dead` is the expected number of dead letters. The audit may have found drift only if
        events were not published.
        """
        overdue = None
        try:
            seconds = self.complete(heals=heals, within=within)
            self.notes.append(f"completed after {seconds:.1f} s")
        except AssertionError as error:
            overdue = error
        if self.load.refused:
            self.faults["changes refused"] = self.load.refused
            self.faults["commits without an answer"] = self.load.unanswered
        compared, wrong = compare(self.webapp.engine, self.cache)
        pending = unfinished(self.cache)
        figures = Figures(
            scenario=self.scenario,
            seed=SEED,
            changes=len(self.publisher.notes) + self.losses,
            events=self.publisher.published,
            unpublished=self.publisher.failed + self.losses,
            faults=self.faults,
            unfinished=pending,
            compared=compared,
            wrong=wrong,
            lost=lost_changes(wrong, self.publisher.notes),
            dead=self._dead_letters(),
            drift=drifted(self.cache),
            exits=[daemon.stop() for daemon in self._daemons],
            seconds=monotonic() - self._began,
            notes=self.notes,
        )
        self.finished = True
        self._say(figures.line())
        figures.check(dead=dead, drift=self.unpublished_changes > 0)
        if overdue:
            raise overdue
        for daemon in self._daemons:
            daemon.keeps_to_its_contract()
        return figures

    def close(self) -> None:
        """Kill the remaining daemons, and close all connections."""
        if not self.finished:
            self._say(f"{self.scenario}: was not finished; seed {SEED}")
        for daemon in self._daemons:
            if daemon.process.poll() is None:
                daemon.stop(signal.SIGKILL)
        self._forget()
        self.publisher.close()
        self.cache.close()
        self.webapp.engine.dispose()


@contextmanager
def site(
    folder: Path, scenario: str, say: Callable[[str], None], *arguments: str
) -> Iterator[Site]:
    """Start the servers of a scenario; `arguments` are for Redis."""
    with embedded.postgres() as database, embedded.redis(arguments=arguments) as cache:
        servers = embedded.EmbeddedServers(database.url, cache.url, database, cache)
        new = Site(servers, folder, scenario, say)
        try:
            yield new
        finally:
            new.close()
