"""`statsd demo`: start servers, a daemon and simulated students, and measure latencies.

The daemon is a separate process. The students are SQLAlchemy sessions with the listeners
installed, as in a web application. The latency of a solve is the time from its commit until the
cached statistics of every dojo that requires the challenge have a later as-of.
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

from statsd import keys, schema
from statsd.calculators import dojo_stats, fetch_with
from statsd.calculators.dojo_stats import DojoStats
from statsd.client import AsyncPublisher
from statsd.client.listeners.sessions import listen
from statsd.dev import MALLOC, embedded
from statsd.dev.demo.view import DemoProgress, say, show
from statsd.dev.sample import load
from statsd.errors import StatsdError
from statsd.events import ChallengeSolve, Event
from statsd.servers.outages import pause_unless

START_DEADLINE = 60.0  # seconds until the cold start is done
DRAIN_DEADLINE = 10.0  # seconds until the cache has the last solves
STOP_DEADLINE = 15.0  # seconds until the daemon has ended
POLL_INTERVAL = 0.002  # seconds between two reads of the cache
SOLVE_INTERVAL = 0.4  # seconds between two solves of one student, on average


class Base(DeclarativeBase):
    """The models of the demonstration's web application."""


class Submission(Base):
    """A submitted flag."""

    __table__ = schema.submissions


@dataclass(frozen=True)
class Platform:
    """The dojos, challenges and users of the sample."""

    dojos: dict[str, int]
    """`dojo_id` by reference id."""
    names: dict[str, str]
    """Names by reference id."""
    challenges: dict[int, set[str]]
    """Reference ids of the dojos that require a challenge, by challenge id."""
    users: list[int]
    solved: set[tuple[int, int]]
    """Pairs of challenge and user."""

    def choose(self, chance: random.Random) -> tuple[int, int]:
        """Choose a challenge and a user who has not solved it, and record the pair as solved."""
        challenges = list(self.challenges)
        while (pair := (chance.choice(challenges), chance.choice(self.users))) in self.solved:
            pass
        self.solved.add(pair)
        return pair


@dataclass(frozen=True)
class Solve:
    """A committed solve that is not in the cache yet."""

    committed: float  # Unix seconds, comparable with an as-of
    began: float  # the same moment, monotonic
    dojos: set[str]  # reference ids of the dojos whose statistics lack it


def run(*, seconds: float, students: int, seed: int) -> None:
    """Run the demonstration for some seconds, or until a signal if `seconds` is 0.

    Raises StatsdError when a solve does not reach the cache, or when a value is wrong.
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
            say(f"{students} students start to solve challenges")
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
    engine = create_async_engine(
        sa.make_url(servers.database_url).set(drivername="postgresql+asyncpg"), pool_size=students
    )
    try:
        yield engine
    finally:
        await engine.dispose()


@contextmanager
def _daemon(servers: embedded.EmbeddedServers) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a daemon until the block ends; its log is a file beside the servers' data."""
    variables = {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
    variables |= {"STATSD_LOG_FORMAT": "text", "STATSD_HTTP_PORT": "0", "SKIP_COLD_START": "0"}
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("STATSD_")
    }
    path = servers.redis.directory / "statsd.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "statsd", "run"],
            env=inherited | MALLOC | variables,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the demonstration only, which stops the daemon
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
    stats_keys = [keys.dojo_stats(reference) for reference in platform.dojos]
    while await cache.exists(*stats_keys) < len(stats_keys):
        if monotonic() - began > START_DEADLINE:
            raise StatsdError(f"the daemon did not fill the cache within {START_DEADLINE:.0f} s")
        await asyncio.sleep(POLL_INTERVAL)
    say(f"all {len(stats_keys)} dojos are in the cache after {monotonic() - began:.1f} s")


class _Publisher(AsyncPublisher):
    """Calls `on_solve` for each published solve, just after its commit."""

    def __init__(self, client: "Redis", on_solve: Callable[[ChallengeSolve], None]) -> None:
        super().__init__(client, enabled=True)
        self._on_solve = on_solve

    async def publish(self, *events: Event) -> int:
        for event in events:
            if isinstance(event, ChallengeSolve):
                self._on_solve(event)
        return await super().publish(*events)


class _Demo:
    """The simulated students, and the task that measures their solves in the cache."""

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
        """Let students solve for some seconds; return when the cache has their solves."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        sessions = async_sessionmaker(engine)
        remove_listeners = listen(sessions, _Publisher(self._cache, self._on_solve))
        async with asyncio.TaskGroup() as group:
            measuring = group.create_task(self._measure())
            showing = group.create_task(show(self.progress, self._cache, self._platform.names))
            work = [group.create_task(self._study(sessions)) for _ in range(students)]
            await pause_unless(self._stop, seconds or None)
            self._stop.set()
            await asyncio.wait(work)
            await self._drain()
            measuring.cancel()
            showing.cancel()
        remove_listeners()

    def _on_solve(self, event: ChallengeSolve) -> None:
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
            await pause_unless(self._stop, self._chance.expovariate(1 / SOLVE_INTERVAL))

    async def _measure(self) -> None:
        """Read the as-ofs again and again, and record the solves that they include."""
        references = list(self._platform.dojos)
        as_of_keys = [keys.updated(keys.dojo_stats(reference)) for reference in references]
        while True:
            if self.pending:
                as_ofs = [float(as_of or 0) for as_of in await self._cache.mget(as_of_keys)]
                self._record(dict(zip(references, as_ofs, strict=True)))
            await asyncio.sleep(POLL_INTERVAL)

    def _record(self, as_ofs: Mapping[str, float]) -> None:
        now = monotonic()
        for solve in self.pending:
            solve.dojos.difference_update(
                [reference for reference in solve.dojos if as_ofs[reference] > solve.committed]
            )
        self.progress.latencies += [now - solve.began for solve in self.pending if not solve.dojos]
        self.pending = [solve for solve in self.pending if solve.dojos]

    async def _drain(self) -> None:
        """Wait until the cache has every solve, or until the deadline."""
        began = monotonic()
        # There is no event to wait for: `_measure` polls the cache.
        while self.pending and monotonic() - began < DRAIN_DEADLINE:  # noqa: ASYNC110
            await asyncio.sleep(POLL_INTERVAL)


async def _differences(engine: AsyncEngine, cache: "Redis", platform: Platform) -> list[str]:
    """Return the dojos whose cached value differs from a full calculation."""
    wrong = []
    for reference, dojo_id in platform.dojos.items():
        key = keys.dojo_stats(reference)
        raw, as_of = await cache.mget(key, keys.updated(key))
        # Windows and days depend on the moment, so the calculation uses the value's as-of.
        moment = datetime.fromtimestamp(float(as_of or 0), UTC).replace(tzinfo=None)
        job = DojoStats(dojo_id)
        async with engine.connect() as connection:
            computed = await dojo_stats.calculator.acompute(fetch_with(connection), [job], moment)
        if computed[job] != {key: orjson.loads(raw or b"0")}:
            wrong.append(reference)
    return wrong
