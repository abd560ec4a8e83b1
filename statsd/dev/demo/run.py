"""`statsd demo`: servers, sample data, a daemon and students, and how fast solves are seen.

The daemon is a process of its own. The students are SQLAlchemy sessions with the listeners
installed, as in a web application. The time of a solve runs from its commit until the cached
statistics of every dojo that requires the challenge are true for a later moment.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, time

import orjson
import sqlalchemy as sa
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase

from statsd import keys, schema, urls
from statsd.calculators import dojo_stats, through
from statsd.calculators.dojo_stats import DojoStats
from statsd.client import AsyncPublisher
from statsd.client.listeners.sessions import listen
from statsd.dev import embedded
from statsd.dev.demo.view import DemoProgress, say, show
from statsd.dev.sample import load
from statsd.errors import StatsdError
from statsd.events import ChallengeSolve, Event
from statsd.servers.outages import pause_unless

START_DEADLINE = 60.0  # seconds until the cold start is done
DRAIN_DEADLINE = 10.0  # seconds until the last solves are seen
STOP_DEADLINE = 15.0  # seconds until the daemon has left
POLL_INTERVAL = 0.002  # seconds between two looks at the cache
THINKING = 0.4  # seconds between two solves of one student, on average


class Base(DeclarativeBase):
    """The models of the demonstration's web application."""


class Submission(Base):
    """A submitted flag."""

    __table__ = schema.submissions


@dataclass(frozen=True)
class Platform:
    """What there is to solve, and who solves it."""

    dojos: dict[str, int]
    """`dojo_id` by reference id."""
    names: dict[str, str]
    """Names by reference id."""
    challenges: dict[int, set[str]]
    """By challenge, the reference ids of the dojos that require it."""
    users: list[int]
    solved: set[tuple[int, int]]
    """Pairs of challenge and user."""

    def choose(self, chance: random.Random) -> tuple[int, int]:
        """Choose a challenge and a user who has not solved it, and remember that."""
        challenges = list(self.challenges)
        while (pair := (chance.choice(challenges), chance.choice(self.users))) in self.solved:
            pass
        self.solved.add(pair)
        return pair


@dataclass(frozen=True)
class Solve:
    """A solve that was committed and not yet seen."""

    committed: float  # seconds of the clock that Redis uses too
    began: float  # the same, monotonic
    dojos: set[str]  # reference ids of those that do not show it yet


def run(*, seconds: float, students: int, seed: int) -> None:
    """Run the demonstration for so many seconds, or, with 0, until a signal.

    Raises StatsdError where a solve did not reach the cache or a value is not exact.
    """
    with embedded.servers() as servers:
        asyncio.run(_run(servers, seconds, students, seed))


async def _run(servers: embedded.EmbeddedServers, seconds: float, students: int, seed: int) -> None:
    say("loading sample data")
    await load.create_tables(servers.database_url)
    loaded = await load.load(servers.database_url, load.DEMO, seed=seed)
    say(f"{loaded.dojos} dojos, {loaded.users} users, {loaded.solves} solves; starting the daemon")
    async with _engine(servers, students) as engine, Redis.from_url(servers.redis_url) as cache:
        with _daemon(servers) as daemon:
            platform = await _read_platform(engine)
            await _wait_for_cold_start(cache, platform)
            demo = _Demo(platform, cache, DemoProgress(), random.Random(seed))
            say(f"{students} students begin to solve")
            await demo.run(engine, seconds, students)
            wrong = await _differences(engine, cache, platform)
        demo.progress.summarise(len(platform.dojos), wrong)
    if demo.pending or wrong or daemon.returncode:
        raise StatsdError(
            f"{len(demo.pending)} solves did not reach the cache, {len(wrong)} values are wrong, "
            f"the daemon ended with {daemon.returncode}"
        )


@asynccontextmanager
async def _engine(servers: embedded.EmbeddedServers, students: int) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(urls.database_url(servers.database_url), pool_size=students)
    try:
        yield engine
    finally:
        await engine.dispose()


@contextmanager
def _daemon(servers: embedded.EmbeddedServers) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a daemon, its log in a file beside the servers' data, until the block ends."""
    own = {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
    own |= {"STATSD_LOG_FORMAT": "text", "STATSD_HTTP_PORT": "0", "SKIP_COLD_START": "0"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STATSD_")}
    path = servers.redis.directory / "statsd.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "statsd", "run"],
            env=kept | own,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the demonstration, which then stops this
        )
        try:
            yield process
        except BaseException:
            say(f"the end of the daemon's log:\n{path.read_text()[-2000:]}")
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


async def _read_platform(engine: AsyncEngine) -> Platform:
    dojo, row, solve = schema.dojos, schema.dojo_challenges.c, schema.submissions.c
    challenges = defaultdict(set)
    async with engine.connect() as connection:
        dojos = {
            keys.reference_id(each.dojo_id, each.id, official=bool(each.official)): each
            for each in await connection.execute(sa.select(dojo))
        }
        references = {each.dojo_id: reference for reference, each in dojos.items()}
        required = sa.select(row.challenge_id, row.dojo_id).where(row.required)
        for challenge_id, dojo_id in await connection.execute(required):
            challenges[challenge_id].add(references[dojo_id])
        users = list(await connection.scalars(sa.select(schema.users.c.id)))
        pairs = sa.select(solve.challenge_id, solve.user_id).where(solve.type == "correct")
        solved = {(pair.challenge_id, pair.user_id) for pair in await connection.execute(pairs)}
    return Platform(
        {reference: each.dojo_id for reference, each in dojos.items()},
        {reference: each.name for reference, each in dojos.items()},
        dict(challenges),
        users,
        solved,
    )


async def _wait_for_cold_start(cache: "Redis", platform: Platform) -> None:
    began = monotonic()
    wanted = [keys.dojo_stats(reference) for reference in platform.dojos]
    while await cache.exists(*wanted) < len(wanted):
        if monotonic() - began > START_DEADLINE:
            raise StatsdError(f"the daemon did not fill the cache within {START_DEADLINE:.0f} s")
        await asyncio.sleep(POLL_INTERVAL)
    say(f"all {len(wanted)} dojos are in the cache after {monotonic() - began:.1f} s")


class _Publisher(AsyncPublisher):
    """Notes when each solve is published, which is when its commit has just returned."""

    def __init__(self, client: "Redis", note: Callable[[ChallengeSolve], None]) -> None:
        super().__init__(client, enabled=True)
        self._note = note

    async def publish(self, *events: Event) -> int:
        for event in events:
            if isinstance(event, ChallengeSolve):
                self._note(event)
        return await super().publish(*events)


class _Demo:
    """Students at work, and one who watches the cache."""

    def __init__(
        self, platform: Platform, cache: "Redis", progress: DemoProgress, chance: random.Random
    ) -> None:
        self.progress = progress
        self.pending: list[Solve] = []
        self._platform = platform
        self._cache = cache
        self._chance = chance
        self._stop = asyncio.Event()

    async def run(self, engine: AsyncEngine, seconds: float, students: int) -> None:
        """Let students solve until it is time; return when their solves are seen."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        sessions = async_sessionmaker(engine)
        forget = listen(sessions, _Publisher(self._cache, self._note))
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch())
            showing = group.create_task(show(self.progress, self._cache, self._platform.names))
            work = [group.create_task(self._study(sessions)) for _ in range(students)]
            await pause_unless(self._stop, seconds or None)
            self._stop.set()
            await asyncio.wait(work)
            await self._until_seen()
            watching.cancel()
            showing.cancel()
        forget()

    def _note(self, event: ChallengeSolve) -> None:
        self.progress.committed += 1
        dojos = set(self._platform.challenges[event.challenge_id])
        self.pending.append(Solve(time(), monotonic(), dojos))

    async def _study(self, sessions: "async_sessionmaker[AsyncSession]") -> None:
        while not self._stop.is_set():
            challenge_id, user_id = self._platform.choose(self._chance)
            now = datetime.now(UTC).replace(tzinfo=None)
            async with sessions() as session:
                session.add(
                    Submission(challenge_id=challenge_id, user_id=user_id, date=now, type="correct")
                )
                await session.commit()
            await pause_unless(self._stop, self._chance.expovariate(1 / THINKING))

    async def _watch(self) -> None:
        """Look at the stamps until a later moment is true for all dojos of each solve."""
        references = list(self._platform.dojos)
        stamp_keys = [keys.updated(keys.dojo_stats(reference)) for reference in references]
        while True:
            if self.pending:
                as_ofs = [float(as_of or 0) for as_of in await self._cache.mget(stamp_keys)]
                self._settle(dict(zip(references, as_ofs, strict=True)))
            await asyncio.sleep(POLL_INTERVAL)

    def _settle(self, as_ofs: Mapping[str, float]) -> None:
        now = monotonic()
        for solve in self.pending:
            solve.dojos.difference_update(
                [reference for reference in solve.dojos if as_ofs[reference] > solve.committed]
            )
        self.progress.latencies += [now - solve.began for solve in self.pending if not solve.dojos]
        self.pending = [solve for solve in self.pending if solve.dojos]

    async def _until_seen(self) -> None:
        began = monotonic()
        # Redis rings no bell for a change of values.
        while self.pending and monotonic() - began < DRAIN_DEADLINE:  # noqa: ASYNC110
            await asyncio.sleep(POLL_INTERVAL)


async def _differences(engine: AsyncEngine, cache: "Redis", platform: Platform) -> list[str]:
    """Return the dojos whose cached value is not what a full calculation gives."""
    wrong = []
    for reference, dojo_id in platform.dojos.items():
        key = keys.dojo_stats(reference)
        raw, as_of = await cache.mget(key, keys.updated(key))
        # A value is true for its stamp: windows and days are those of that moment.
        moment = datetime.fromtimestamp(float(as_of or 0), UTC).replace(tzinfo=None)
        job = DojoStats(dojo_id)
        async with engine.connect() as connection:
            computed = await dojo_stats.calculator.acompute(through(connection), [job], moment)
        if computed[job] != {key: orjson.loads(raw or b"0")}:
            wrong.append(reference)
    return wrong
