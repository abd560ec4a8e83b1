"""Load, faults, and what must hold when they are over."""

import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import orjson
import redis
import sqlalchemy as sa

from statsd import embedded, keys, schema
from statsd.calculators import dojo_stats
from statsd.calculators.dojo_stats import DojoStats
from statsd.client import Publisher, listen
from tests.support import Daemon, eventually
from tests.webapp import Dojo, DojoChallenge, Membership, User, Visibility, WebApp, now, solve_of

DOJOS, CHALLENGES, USERS = 12, 6, 40
SETTLE = 60.0  # seconds until everything is answered


class Site:
    """Servers of its own, a web application that publishes, and daemons to be hurt."""

    def __init__(self, servers: embedded.Servers, folder: Path, seed: int) -> None:
        self.servers = servers
        self.cache = redis.Redis.from_url(servers.redis_url)
        url = sa.make_url(servers.database_url).set(drivername="postgresql+psycopg2")
        self.webapp = WebApp(sa.create_engine(url, pool_pre_ping=True))
        self.publisher = Publisher.from_url(servers.redis_url)
        self.chance = random.Random(seed)
        self.changes = 0
        self._folder = folder
        self._daemons: list[Daemon] = []
        self._forget = listen(self.webapp.sessions, self.publisher)
        schema.metadata.create_all(self.webapp.engine)
        self.users = [self.webapp.create_user() for _ in range(USERS)]
        self.dojos = [self.webapp.create_dojo(CHALLENGES) for _ in range(DOJOS)]
        self.challenges = {dojo.dojo_id: self.webapp.challenge_ids(dojo) for dojo in self.dojos}

    def start(self, suffix: str = "", **settings: str) -> Daemon:
        """Start a daemon whose leases end soon."""
        variables = {
            "DATABASE_URL": self.servers.database_url,
            "REDIS_URL": self.servers.redis_url,
            "STATSD_CONSUMER_SUFFIX": suffix,
            "STATSD_LEASE": "2",
        }
        daemon = Daemon(self._folder / f"log{suffix}", variables | settings)
        self._daemons.append(daemon)
        return daemon

    def close(self) -> None:
        for daemon in self._daemons:
            if daemon.process.poll() is None:
                daemon.stop(signal.SIGKILL)
        self._forget()
        self.publisher.close()
        self.cache.close()
        self.webapp.engine.dispose()

    # --- load

    def change(self) -> None:
        """Change something at random, in a transaction of its own."""
        dojo, user = self.chance.choice(self.dojos), self.chance.choice(self.users)
        action = self.chance.choices(
            [self._solve, self._unsolve, self._hide, self._join, self._shut, self._roll_back],
            weights=[70, 8, 4, 6, 6, 6],
        )[0]
        action(dojo, user)
        self.changes += 1

    def _solve(self, dojo: Dojo, user: User) -> None:
        solve = solve_of(user, self.chance.choice(self.challenges[dojo.dojo_id]))
        with self.webapp.sessions() as session:
            session.add(solve)
            try:
                session.commit()
            except sa.exc.IntegrityError:  # solved already
                session.rollback()

    def _unsolve(self, _dojo: Dojo, user: User) -> None:
        with self.webapp.sessions.begin() as session:
            solve = session.scalars(sa.select(type(solve_of(user, 1))).filter_by(user_id=user.id))
            if found := solve.first():
                session.delete(found)

    def _hide(self, _dojo: Dojo, user: User) -> None:
        with self.webapp.sessions.begin() as session:
            found = session.get_one(User, user.id)
            found.hidden = not found.hidden

    def _join(self, dojo: Dojo, user: User) -> None:
        with self.webapp.sessions.begin() as session:
            kind = self.chance.choice(["member", "student", "admin"])
            session.merge(Membership(dojo_id=dojo.dojo_id, user_id=user.id, type=kind))

    def _shut(self, dojo: Dojo, _user: User) -> None:
        place = {"module_index": 0, "challenge_index": self.chance.randrange(CHALLENGES)}
        start = self.chance.choice([None, now() - timedelta(seconds=5)])
        with self.webapp.sessions.begin() as session:
            assert session.get(DojoChallenge, (dojo.dojo_id, *place.values()))
            session.merge(Visibility(dojo_id=dojo.dojo_id, start=start, stop=None, **place))

    def _roll_back(self, dojo: Dojo, user: User) -> None:
        with self.webapp.sessions() as session:
            session.add(solve_of(user, self.challenges[dojo.dojo_id][0], timedelta(days=900)))
            with suppress(sa.exc.IntegrityError):
                session.flush()
            session.rollback()

    @contextmanager
    def load(self) -> Iterator[None]:
        """Change things, one after the other, for as long as the block lasts."""
        stop = Event()

        def work() -> None:
            while not stop.is_set():
                self.change()

        thread = Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    # --- what must hold

    def settled(self) -> bool:
        """Whether nothing is unread, pending or owed."""
        due = self.cache.keys(f"{keys.INTERNAL}due:*")
        later = self.cache.exists(f"{keys.INTERNAL}later")
        pending: Any = self.cache.xpending(keys.STREAM, keys.GROUP)
        return not (due or later or pending["pending"] or self.cache.xlen(keys.STREAM))

    def check(self) -> None:
        """Wait until all is settled; every value must be what a full calculation gives."""
        eventually(self.settled, "all is settled", SETTLE)
        assert self.cache.xlen(keys.DEAD_LETTERS) == 0
        wrong = [dojo.reference_id for dojo in self.dojos if not self._is_right(dojo)]
        assert not wrong

    def _is_right(self, dojo: Dojo) -> bool:
        key = keys.dojo_stats(dojo.reference_id)
        raw, stamp = self.cache.mget(key, keys.updated(key))
        moment = datetime.fromtimestamp(float(stamp or 0), UTC).replace(tzinfo=None)
        with self.webapp.engine.connect() as connection:
            wanted = [DojoStats(dojo.dojo_id)]
            [computed] = dojo_stats.calculator.compute(connection, wanted, moment).values()
        return bool(computed == {key: orjson.loads(raw or b"null")})


@contextmanager
def site(folder: Path, seed: int = 0) -> Iterator[Site]:
    with ExitStack() as exits:
        servers = exits.enter_context(embedded.servers())
        made = Site(servers, folder, seed)
        exits.callback(made.close)
        yield made
