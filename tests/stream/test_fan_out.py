"""One challenge in very many dojos, solved by very many users at once: each step is small."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from redis.asyncio import Redis

from statsd import keys, scripts
from statsd.client import Publisher
from statsd.events import ActivityUpdate, ChallengeSolve
from statsd.job import Priority
from statsd.servers.database import Database
from tests.conftest import FIGURES
from tests.faults.figures import Unfinished, compare, unfinished
from tests.faults.form import sized
from tests.support.daemon_parts import Parts
from tests.support.processes import Daemon, daemon, eventually
from tests.support.webapp import WebApp

DOJOS = 500
FEW = 10  # dojos
USERS = sized(200, 500)
TYPICAL = 50.0  # milliseconds of Redis for a call; they are made for 10 on an idle machine
WEB_TIMEOUT = 0.5  # seconds: the usual one of a publisher
LONGEST = 1000 * WEB_TIMEOUT  # milliseconds of a call, and of a block of the event loop
COMPLETE = 600.0  # seconds

SITE = """
WITH one AS (
  INSERT INTO challenges DEFAULT VALUES RETURNING id
), many AS (
  INSERT INTO dojos (dojo_id, id, name, official, data)
  SELECT n, 'dojo-' || n, 'Dojo ' || n, false, '{"type": "public"}'
  FROM generate_series(1, :dojos) n RETURNING dojo_id
), modules AS (
  INSERT INTO dojo_modules (dojo_id, module_index, id) SELECT dojo_id, 0, 'm' FROM many
), users AS (
  INSERT INTO users (name, hidden) SELECT 'user ' || n, false FROM generate_series(1, :users) n
)
INSERT INTO dojo_challenges (dojo_id, module_index, challenge_index, challenge_id, id)
SELECT dojo_id, 0, 0, one.id, 'c' FROM many, one
"""
SOLVES = """
INSERT INTO submissions (challenge_id, user_id, date, type)
SELECT challenges.id, users.id, now() AT TIME ZONE 'UTC', 'correct' FROM challenges, users
RETURNING user_id, challenge_id
"""


@pytest.fixture
def slow_log(cache: "redis.Redis") -> Iterator[None]:
    """Redis notes each command, and so each call of a script, that takes over a millisecond."""
    settings = {"slowlog-log-slower-than": 1000, "slowlog-max-len": 100_000}
    before: Any = {name: cache.config_get(name)[name] for name in settings}
    for name, value in settings.items():
        cache.config_set(name, value)
    yield
    for name, value in before.items():
        cache.config_set(name, value)


def calls_of(cache: "redis.Redis") -> Mapping[str, list[float]]:
    """Return the milliseconds of all such calls since the last reset, by script."""
    names = {cache.register_script(scripts.source(name)).sha: name for name in scripts.every()}
    calls = defaultdict(list)
    found: Any = cache.slowlog_get(100_000)
    for each in found:
        command, *arguments = each["command"].split(b" ", 2)
        if command == b"EVALSHA":
            calls[names[arguments[0].decode()]].append(each["duration"] / 1000)
    return calls


def check(calls: Mapping[str, list[float]], say: Callable[[str, str], None]) -> None:
    """Assert that calls are short; a few may be interrupted on a busy machine."""
    for name, durations in calls.items():
        say(
            FIGURES,
            f"fan-out: {name}: {len(durations)} calls of over 1 ms, median "
            f"{median(durations):.1f} ms, longest {max(durations):.1f} ms",
        )
        assert median(durations) < TYPICAL, name
        assert max(durations) < LONGEST, name


class Site:
    """A site whose dojos all have one challenge; the servers, and the events."""

    def __init__(self, webapp: WebApp, variables: dict[str, str], cache: "redis.Redis") -> None:
        self._url = variables["REDIS_URL"]
        self._variables = variables | {
            "STATSD_AUDIT_INTERVAL": "0",
            "STATSD_HEARTBEAT_INTERVAL": "1",
        }
        self.cache = cache
        self.engine = webapp.engine

    def fill(self, dojos: int) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(SITE), {"dojos": dojos, "users": USERS})

    @contextmanager
    def daemon(self, log: Path) -> Iterator[Daemon]:
        """Run a daemon, with a cache that is filled."""
        with daemon(log, **self._variables) as process:
            process.started()
            eventually(self.is_idle, "the cache is filled")
            yield process

    def solve(self) -> None:
        """Let every user solve the challenge, and publish all events at once."""
        with self.engine.begin() as connection:
            solves = list(connection.execute(sa.text(SOLVES)))
        publisher = Publisher.from_url(self._url, enabled=True)
        assert publisher.publish(*(ChallengeSolve(*solve) for solve in solves)) == USERS
        publisher.close()

    @contextmanager
    def publishing(self) -> Iterator[Publisher]:
        """Publish an event again and again, as a web worker does, while the block runs."""
        publisher = Publisher.from_url(self._url, enabled=True, socket_timeout=WEB_TIMEOUT)
        over = threading.Event()

        def publish() -> None:
            while not over.wait(0.02):
                publisher.publish(ActivityUpdate(1))

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            yield publisher
        finally:
            over.set()
            thread.join()
            publisher.close()

    def wait_for_acceptance(self) -> None:
        """Wait until every event so far is acknowledged, however many come after them."""
        newest: Any = self.cache.xinfo_stream(keys.STREAM)["last-generated-id"]
        eventually(
            lambda: not self.cache.xrange(keys.STREAM, "-", newest, count=1),
            "all events are accepted",
            COMPLETE,
        )

    def is_idle(self) -> bool:
        return unfinished(self.cache) == Unfinished(0, 0, 0)


@pytest.fixture
def site(webapp: WebApp, variables: dict[str, str], cache: "redis.Redis") -> Site:
    return Site(webapp, variables, cache)


def next_heartbeat(process: Daemon) -> int:
    """Wait for a heartbeat; return how many there are."""
    count = len(process.lines("heartbeat"))
    eventually(lambda: len(process.lines("heartbeat")) > count, "a heartbeat")
    return count + 1


@pytest.mark.usefixtures("slow_log")
@pytest.mark.timeout(900)
def test_redis_and_the_event_loop_are_never_held_for_long(
    site: Site, tmp_path: Path, record_property: Callable[[str, str], None]
) -> None:
    """No other publisher loses an event meanwhile."""
    site.fill(DOJOS)
    with site.daemon(tmp_path / "log") as process:
        first = next_heartbeat(process)
        site.cache.slowlog_reset()
        with site.publishing() as other:
            site.solve()
            site.wait_for_acceptance()
            assert site.cache.zcard(keys.due(Priority.INTERACTIVE)) > 0
        calls = calls_of(site.cache)
        next_heartbeat(process)
        blocks = [each["loop_lag_milliseconds"] for each in process.lines("heartbeat")[first:]]
        record_property(FIGURES, f"fan-out: the event loop was blocked for {max(blocks)} ms")
        check(calls, record_property)
        assert max(blocks) < LONGEST
        assert other.failed == 0
        assert other.published > 0
        accepted = process.lines("batch accepted")
        assert sum(line["jobs"] for line in accepted) >= DOJOS * USERS
        assert len(calls["stream/accept"]) > len(accepted)


@pytest.mark.usefixtures("slow_log")
@pytest.mark.timeout(900)
def test_every_value_is_right_in_the_end(
    site: Site, tmp_path: Path, record_property: Callable[[str, str], None]
) -> None:
    site.fill(sized(20, DOJOS))
    with site.daemon(tmp_path / "log"):
        site.cache.slowlog_reset()
        site.solve()
        eventually(site.is_idle, "all jobs are answered", COMPLETE)
        check(calls_of(site.cache), record_property)
    compared, wrong = compare(site.engine, site.cache)
    assert not wrong
    assert compared > USERS
    assert not site.cache.exists(keys.DEAD_LETTERS)


async def test_events_are_acknowledged_in_the_step_that_enqueues_their_last_job(
    site: Site, async_cache: Redis, snapshots: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that step is not reached, the events are handled again, and no job is missing."""
    site.fill(FEW)
    parts = Parts(async_cache, snapshots)
    await parts.start()
    site.solve()
    accept, calls = parts.stream.accept, 0

    async def accept_two(*arguments: Any) -> int:  # of the three steps for the first 50 events
        nonlocal calls
        calls += 1
        if calls > 2:
            raise redis.ConnectionError("Redis is gone")
        return await accept(*arguments)

    monkeypatch.setattr(parts.stream, "accept", accept_two)
    await parts.consumer.step()  # no event is pending
    with pytest.raises(redis.ConnectionError):
        await parts.consumer.step()
    due = keys.due(Priority.INTERACTIVE)
    assert site.cache.xlen(keys.STREAM) == USERS
    assert 0 < site.cache.zcard(due) < FEW * USERS
    monkeypatch.undo()
    await parts.consumer.recover()
    while site.cache.xlen(keys.STREAM):
        await parts.consumer.step()
    assert site.cache.zcard(due) == FEW * USERS
