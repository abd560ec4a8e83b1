"""From end to end: a commit, the stream, a daemon process, the cache, a page.

The tests run on embedded servers with a daemon of their own. If DATABASE_URL, REDIS_URL and
STATSD_TEST_DESTROYS_DATA=yes are set, they run on that stack, with its `stats-worker`.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson
import pytest
import redis
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from statsd import keys, schema
from statsd.calculators import dojo_stats
from statsd.client import AsyncReader, Publisher, Reader, listen
from statsd.dev import embedded
from tests.support.commands import run_with
from tests.support.processes import DEADLINE, daemon, environment, eventually
from tests.support.webapp import Dojo, DojoChallenge, Submission, User, WebApp, now


class Stack(NamedTuple):
    """The servers; a daemon runs on them."""

    database_url: str
    redis_url: str
    client: "redis.Redis"

    @property
    def variables(self) -> dict[str, str]:
        return {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}


_running: list[Stack] = []
URGENT = ("user_entries", "dojo_stats")
_last_commit = [0.0]  # seconds of the Redis server's clock


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with ExitStack() as exits:
        if os.environ.get("DATABASE_URL"):
            addresses = os.environ["DATABASE_URL"], os.environ["REDIS_URL"]
        else:
            servers = exits.enter_context(embedded.servers())
            addresses = servers.database_url, servers.redis_url
        client = exits.enter_context(closing(redis.Redis.from_url(addresses[1])))
        _create_tables(addresses[0])
        running = Stack(*addresses, client)
        if not os.environ.get("DATABASE_URL"):
            log = tmp_path_factory.mktemp("daemon") / "log"
            exits.enter_context(daemon(log, **running.variables)).started()
        _running[:] = [running]
        yield running
        _running.clear()


def _sync_url(database_url: str) -> sa.URL:
    return sa.make_url(database_url).set(drivername="postgresql+psycopg2")


def _create_tables(database_url: str) -> None:
    engine = sa.create_engine(_sync_url(database_url))
    with engine.begin() as connection:
        schema.metadata.create_all(connection)
    engine.dispose()


@pytest.fixture
def webapp(stack: Stack) -> Iterator[WebApp]:
    """An application whose sessions publish events for their commits."""
    engine = sa.create_engine(_sync_url(stack.database_url), pool_size=10)
    app = WebApp(engine)
    publisher = Publisher.from_url(stack.redis_url)
    # Registered before the listeners, so that the recorded time is not later than the event's.
    sa.event.listen(app.sessions, "after_commit", _note_commit)
    forget = listen(app.sessions, publisher)
    yield app
    forget()
    assert publisher.failed == 0
    publisher.close()
    engine.dispose()


def _note_commit(_session: object) -> None:
    seconds, microseconds = get_redis_client().time()
    _last_commit[0] = seconds + microseconds / 1_000_000


@pytest.fixture
def reader(stack: Stack, webapp: WebApp) -> Iterator[Reader]:
    reader = Reader.from_url(webapp.engine, stack.redis_url)
    yield reader
    reader.close()


@pytest.fixture
def stats_test_user(webapp: WebApp) -> User:
    return webapp.create_user()


@pytest.fixture
def stats_test_dojo(webapp: WebApp) -> Dojo:
    """A new dojo, created after the cache was cleared."""
    clear_redis_stats()
    return webapp.create_dojo()


def get_redis_client() -> "redis.Redis":
    """Return a client of the stack's Redis."""
    return _running[0].client


def clear_redis_stats() -> None:
    """Delete `stats:*` and with it the daemon's own keys, as an operator may at any time."""
    client = get_redis_client()
    names = list(client.scan_iter("stats:*", count=1000))
    if names:
        client.delete(*names)


def get_stream_length() -> int:
    return int(get_redis_client().xlen(keys.STREAM))


def wait_for_cache_update(dojo_id: str, timeout: float = DEADLINE) -> dict[str, Any]:
    """Return a dojo's statistics once their as-of is later than the last commit.

    Wait for the jobs of all published events too: statistics that follow from the live boards may
    be written before another user's solve is on these boards.
    """
    key = keys.dojo_stats(dojo_id)

    def fresh() -> dict[str, Any] | None:
        client = get_redis_client()
        if get_stream_length() or any(client.keys(keys.job(f"{kind}:*")) for kind in URGENT):
            return None
        value, as_of = client.mget(key, keys.updated(key))
        if not value or float(as_of or 0) <= _last_commit[0]:
            return None
        stats: dict[str, Any] = orjson.loads(value)
        return stats

    return eventually(fresh, f"{key} is updated", timeout)


def pending() -> int:
    return int(get_redis_client().xpending(keys.STREAM, keys.GROUP)["pending"])


@contextmanager
def published(stack: Stack) -> Iterator[Future[Any]]:
    """Read the stream beside the daemon, which removes the entries that it has accepted."""
    with (
        closing(
            redis.Redis.from_url(stack.redis_url, protocol=2, socket_timeout=2 * DEADLINE)
        ) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        reading = thread.submit(client.xread, {keys.STREAM: "$"}, block=int(DEADLINE * 1000))
        eventually(_somebody_blocks, "the reader waits")
        yield reading


def _somebody_blocks() -> bool:
    clients = get_redis_client().client_list()
    return any(each["cmd"] == "xread" and "b" in each["flags"] for each in clients)


def test_redis_stream_event_published(
    stack: Stack, webapp: WebApp, stats_test_dojo: Dojo, stats_test_user: User
) -> None:
    [challenge_id, *_] = webapp.challenge_ids(stats_test_dojo)
    with published(stack) as reading:
        webapp.solve(stats_test_user, challenge_id)
        [(_stream, [(_entry_id, fields)])] = reading.result()
    event = orjson.loads(fields[b"data"])
    assert event["type"] == "challenge_solve"
    assert event["payload"]["user_id"] == stats_test_user.id
    assert event["payload"]["challenge_id"] == challenge_id
    assert datetime.fromisoformat(event["timestamp"]).tzinfo is not None


def test_redis_stream_cleanup(webapp: WebApp, stats_test_dojo: Dojo, stats_test_user: User) -> None:
    """Handled entries are acknowledged and removed from the stream."""
    for challenge_id in webapp.challenge_ids(stats_test_dojo):
        webapp.solve(stats_test_user, challenge_id)
    wait_for_cache_update(stats_test_dojo.reference_id)
    eventually(lambda: get_stream_length() == 0, "the stream is empty")
    assert get_redis_client().xpending(keys.STREAM, keys.GROUP)["pending"] == 0


def test_background_worker_processes_events(
    webapp: WebApp, stats_test_dojo: Dojo, stats_test_user: User
) -> None:
    before = wait_for_cache_update(stats_test_dojo.reference_id)
    webapp.solve(stats_test_user, webapp.challenge_ids(stats_test_dojo)[0])
    after = wait_for_cache_update(stats_test_dojo.reference_id)
    assert (before["solves"], before["users"]) == (0, 0)
    assert (after["solves"], after["users"]) == (1, 1)


def test_multiple_solves_update_stats(
    webapp: WebApp, stats_test_dojo: Dojo, stats_test_user: User
) -> None:
    for number, challenge_id in enumerate(webapp.challenge_ids(stats_test_dojo), start=1):
        webapp.solve(stats_test_user, challenge_id)
        stats = wait_for_cache_update(stats_test_dojo.reference_id)
        assert (stats["solves"], stats["users"]) == (number, 1)


def test_a_solve_is_on_the_boards(
    webapp: WebApp, stats_test_dojo: Dojo, stats_test_user: User, reader: Reader
) -> None:
    """On the boards of the dojo and of its module, in the scores, and in the challenge solves."""
    user, dojo_id = stats_test_user, stats_test_dojo.dojo_id
    challenge_id, *_ = webapp.challenge_ids(stats_test_dojo)
    webapp.solve(user, challenge_id)
    board = [{"rank": 1, "solves": 1, "user_id": user.id, "name": user.name, "email": user.email}]
    score = {"ranks": [user.id], "solves": {str(user.id): 1}}
    expected: dict[str, Any] = {
        keys.scoreboard(dojo_id): board,
        keys.scoreboard(dojo_id, 0, 7): board,
        keys.scores(dojo_id): score,
        keys.scores(dojo_id, 0): score,
        keys.challenge_solves(dojo_id, 0): {str(challenge_id): 1},
    }

    def are_cached() -> bool:
        found = get_redis_client().mget(list(expected))
        return [orjson.loads(raw or b"null") for raw in found] == list(expected.values())

    eventually(are_cached, "the solve is in every value")
    assert reader.get_scoreboard(dojo_id, 0, 30, me=user.id) == (board, 1, board[0])
    assert reader.get_dojo_scores(dojo_id) == score


def test_concurrent_solves(webapp: WebApp, stats_test_dojo: Dojo) -> None:
    """Ten users solve challenges at the same time, each in a session of its own."""
    challenge_ids = webapp.challenge_ids(stats_test_dojo)
    users = [webapp.create_user() for _ in range(10)]

    def solve_all(user: User) -> None:
        for challenge_id in challenge_ids:
            webapp.solve(user, challenge_id)

    with ThreadPoolExecutor(len(users)) as threads:
        list(threads.map(solve_all, users))
    stats = wait_for_cache_update(stats_test_dojo.reference_id)
    assert (stats["solves"], stats["users"]) == (len(users) * len(challenge_ids), len(users))


def test_stats_api_reads_from_cache(stack: Stack, stats_test_dojo: Dojo) -> None:
    """A page shows the cached value, without a query to the database."""
    reference = stats_test_dojo.reference_id
    value = wait_for_cache_update(reference)
    unreachable = sa.create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    reader = Reader.from_url(unreachable, stack.redis_url)
    assert reader.get_dojo_stats(reference) == value
    reader.close()
    unreachable.dispose()


def test_cache_timestamps(webapp: WebApp, stats_test_dojo: Dojo, stats_test_user: User) -> None:
    key = keys.updated(keys.dojo_stats(stats_test_dojo.reference_id))
    wait_for_cache_update(stats_test_dojo.reference_id)
    first = float(get_redis_client().get(key) or 0)
    webapp.solve(stats_test_user, webapp.challenge_ids(stats_test_dojo)[0])
    wait_for_cache_update(stats_test_dojo.reference_id)
    second = float(get_redis_client().get(key) or 0)
    seconds, _ = get_redis_client().time()
    assert first < _last_commit[0] < second <= seconds + 1


def test_cache_structure(stats_test_dojo: Dojo) -> None:
    stats = wait_for_cache_update(stats_test_dojo.reference_id)
    assert set(stats) == {
        "users",
        "challenges",
        "visible_challenges",
        "solves",
        "recent_solves",
        "trends",
        "chart_data",
    }
    assert (stats["challenges"], stats["visible_challenges"]) == (3, 3)
    assert stats["trends"] == {"solves": 0, "users": 0, "active": 0, "challenges": 0}


def test_cold_start_initializes_cache(webapp: WebApp) -> None:
    """An empty cache is filled within a minute, without any event."""
    dojos = [webapp.create_dojo() for _ in range(3)]
    eventually(lambda: get_stream_length() == 0 and not pending(), "all events are handled")
    clear_redis_stats()
    references = [keys.dojo_stats(dojo.reference_id) for dojo in dojos]
    eventually(lambda: get_redis_client().exists(*references) == len(dojos), "all dojos are back")


def test_recent_solves_appear_in_stats(
    webapp: WebApp, stats_test_dojo: Dojo, stats_test_user: User
) -> None:
    ids = webapp.challenge_ids(stats_test_dojo)
    webapp.solve(stats_test_user, ids[0], ago=timedelta(hours=2))
    webapp.solve(stats_test_user, ids[1], ago=timedelta(hours=1))
    webapp.solve(stats_test_user, ids[2], ago=timedelta(days=8))
    recent = wait_for_cache_update(stats_test_dojo.reference_id)["recent_solves"]
    assert [solve["challenge_name"] for solve in recent] == ["Level 1", "Level 0"]
    for solve in recent:
        date = datetime.fromisoformat(solve["date"])
        assert date.tzinfo is None
        assert solve["date_display"] == date.strftime("%m/%d/%y %I:%M %p")


def test_chart_data_structure(webapp: WebApp, stats_test_dojo: Dojo, stats_test_user: User) -> None:
    """The chart begins with the last complete day; a solve of today is not in it."""
    ids = webapp.challenge_ids(stats_test_dojo)
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    webapp.solve(stats_test_user, ids[0], ago=now() - midnight + timedelta(hours=1))
    webapp.solve(stats_test_user, ids[1])
    stats = wait_for_cache_update(stats_test_dojo.reference_id)
    assert stats["chart_data"] == {
        "labels": ["Today", "1w ago", "1mo ago", "2mo ago"],
        "solves": [1, 0, 0, 0],
        "users": [1, 0, 0, 0],
    }
    assert stats["trends"]["solves"] == 100


def test_stats_consistency_after_multiple_updates(webapp: WebApp, stats_test_dojo: Dojo) -> None:
    """After several kinds of changes, a full calculation gives the cached value."""
    ids = webapp.challenge_ids(stats_test_dojo)
    users = [webapp.create_user() for _ in range(3)]
    for user in users:
        for challenge_id in ids:
            webapp.solve(user, challenge_id)
    with webapp.sessions.begin() as session:
        solve = session.scalars(sa.select(Submission).filter_by(user_id=users[0].id)).first()
        session.delete(solve)
    with webapp.sessions.begin() as session:
        session.merge(users[1]).hidden = True
    with webapp.sessions.begin() as session:
        row = session.get_one(DojoChallenge, (stats_test_dojo.dojo_id, 0, 0))
        row.name = "<b>renamed</b>"
    stats = wait_for_cache_update(stats_test_dojo.reference_id)
    assert (stats["solves"], stats["users"]) == (2 * len(ids) - 1, 2)
    with webapp.engine.connect() as connection:
        wanted = [dojo_stats.DojoStats(stats_test_dojo.dojo_id)]
        [computed] = dojo_stats.calculator.compute(connection, wanted, now()).values()
    assert computed == {keys.dojo_stats(stats_test_dojo.reference_id): stats}


def test_stats_worker_running(stack: Stack) -> None:
    """A daemon is in the consumer group and sends heartbeats, and the health check agrees."""
    names = [
        consumer["name"].decode()
        for consumer in stack.client.xinfo_consumers(keys.STREAM, keys.GROUP)
    ]
    heartbeats = [keys.heartbeat(name) for name in names]
    eventually(lambda: stack.client.exists(*heartbeats), "a daemon sends heartbeats")
    if not os.environ.get("DATABASE_URL"):  # the daemon of a given stack is on another host
        health = run_with(stack.variables)
        eventually(lambda: health("health") == (0, "well\n", ""), "the health check agrees")


def test_worker_env_variables() -> None:
    """The daemon's settings come from the environment; passwords are masked."""
    shown = subprocess.run(
        [sys.executable, "-m", "statsd", "settings"],
        env=environment(
            {
                "DATABASE_URL": "postgresql+psycopg2://ctfd:secret-1@db/ctfd",
                "REDIS_URL": "redis://:secret-2@cache:6379",
                "STATSD_BATCH_SIZE": "17",
            }
        ),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "DATABASE_URL=postgresql+psycopg2://ctfd:***@db/ctfd" in shown
    assert "REDIS_URL=redis://:***@cache:6379" in shown
    assert "STATSD_BATCH_SIZE=17 events" in shown
    assert "secret" not in shown


async def test_fallback_calculation_when_cache_miss(
    stack: Stack, webapp: WebApp, stats_test_dojo: Dojo, stats_test_user: User, reader: Reader
) -> None:
    """On a miss a page computes the same value, and the daemon writes the key again."""
    reference = stats_test_dojo.reference_id
    webapp.solve(stats_test_user, webapp.challenge_ids(stats_test_dojo)[0])
    value = wait_for_cache_update(reference)
    key = keys.dojo_stats(reference)
    stack.client.delete(key, keys.updated(key))
    assert reader.get_dojo_stats(reference) == value
    eventually(lambda: stack.client.exists(key), "the daemon has written the key again")

    stack.client.delete(key, keys.updated(key))
    engine = create_async_engine(
        sa.make_url(stack.database_url).set(drivername="postgresql+asyncpg")
    )
    async_reader = AsyncReader.from_url(engine, stack.redis_url)
    assert await async_reader.get_dojo_stats(reference) == value
    await async_reader.aclose()
    await engine.dispose()

    without = Reader.from_url(webapp.engine, stack.redis_url, fallback=False)
    assert without.get_dojo_stats("no-such-dojo") == dojo_stats.empty()
    without.close()
