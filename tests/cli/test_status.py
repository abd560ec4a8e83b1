"""`statsd status`, `top` and `why`, on a healthy system and on a faulty one."""

import signal
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators.dojo_arrays import Boards, Exports
from statsd.calculators.dojo_check import DojoCheck
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.scoreboard import Scoreboard
from statsd.dev import embedded
from statsd.jobs.attempt import Answer
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import LeaseRequest, Queue
from tests.support.commands import Run, run_with
from tests.support.processes import Daemon, daemon, eventually
from tests.support.webapp import Dojo, WebApp, solves_of

BATCHES = LeaseRequest({DojoStats.kind: 1})
STATS = DojoStats(-5)


@pytest.fixture
def statsd(redis_server: embedded.Redis, cache: "redis.Redis") -> Run:  # noqa: ARG001 - it is empty
    return run_with({"REDIS_URL": redis_server.url})


@pytest.fixture
def process(
    database: str,
    redis_server: embedded.Redis,
    publishing: None,  # noqa: ARG001 - for as long as the daemon runs
    tmp_path: Path,
) -> Iterator[Daemon]:
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_server.url}
    with daemon(tmp_path / "log", STATSD_CONSUMER_SUFFIX="one", **variables) as process:
        yield process.started()


@pytest.fixture
def dojo(webapp: WebApp, process: Daemon, cache: "redis.Redis") -> Dojo:  # noqa: ARG001
    """A dojo with a solve that has reached the cache."""
    dojo = webapp.create_dojo()
    webapp.solve(webapp.create_user(), webapp.challenge_ids(dojo)[0])
    eventually(lambda: solves_of(cache, dojo)() == 1, "the solve is in the cache")
    return dojo


def line_of(text: str, subject: str) -> str:
    """Return the line of a text about a subject."""
    return next(line for line in text.splitlines() if line.startswith(subject))


def test_a_healthy_system_is_reported_as_well(statsd: Run, process: Daemon, dojo: Dojo) -> None:
    [started] = process.lines("started")
    text = eventually(lambda: shown(statsd, "well", "user_entries", " ready"), "all is well")
    assert line_of(text, "events").endswith(" 0 unread, 0 pending, lag 0.0 s")
    assert "  ready  " in line_of(text, started["consumer"])
    assert dojo.name not in text
    found = orjson.loads(statsd("status", "--json").output)
    assert found["troubles"] == []
    assert found["queue_stats"]["unread_events"] == found["queue_stats"]["dead"] == 0
    [report] = found["daemons"]
    assert report["name"] == started["consumer"]
    assert report["latency"]["user_entries"][0] > 0
    assert report["memory"] > 10_000_000


def shown(statsd: Run, *parts: str) -> str | None:
    """Return the output of `status` if all is well and it has all of these parts."""
    code, text, _ = statsd("status")
    return text if code == 0 and all(part in text for part in parts) else None


@pytest.mark.usefixtures("dojo")
def test_top_shows_the_status_until_its_time_is_over(statsd: Run) -> None:
    code, text, _ = statsd("top", "--seconds", "1", "--interval", "0.2")
    assert code == 0
    assert "jobs/s" in text
    assert line_of(text, "events")


def test_a_missing_daemon_is_reported_as_trouble(statsd: Run, cache: "redis.Redis") -> None:
    cache.xadd(keys.STREAM, {"data": b"no event"})
    code, text, _ = statsd("status")
    assert code == 1
    trouble, daemon = text.splitlines()[:2]
    assert trouble == "in trouble"
    assert daemon == (
        "  no daemon works: start one, `statsd run`; "
        "one that waits for a server names it in its log"
    )
    assert "1 unread" in text


def test_a_killed_daemon_is_reported(statsd: Run, process: Daemon) -> None:
    [started] = process.lines("started")
    eventually(lambda: shown(statsd, "well"), "all is well")
    process.stop(signal.SIGKILL)
    eventually(
        lambda: f"{started['consumer']} has not reported for" in statsd("status").output,
        "the killed daemon is reported",
    )
    assert statsd("status").code == 1


def test_a_lost_server_is_reported_in_one_line() -> None:
    for command in (("status",), ("top",), ("why", "stats:belts")):
        ended = run_with({"REDIS_URL": "redis://127.0.0.1:1"})(*command)
        assert (ended.code, ended.output) == (1, "")
        assert ended.errors.startswith("statsd: Redis (REDIS_URL) does not serve: ")
        assert len(ended.errors.splitlines()) == 1


def test_why_shows_the_last_event_and_the_last_answer(
    statsd: Run, dojo: Dojo, cache: "redis.Redis"
) -> None:
    key = keys.dojo_stats(dojo.reference_id)
    eventually(
        lambda: line_of(statsd("why", key).output, "pending").endswith("  no"), "no job is pending"
    )
    code, text, _ = statsd("why", key)
    assert code == 0
    assert line_of(text, "job").endswith(f" {DojoStats(dojo.dojo_id).name}")
    assert f" {cache.strlen(key)} bytes, as of 20" in line_of(text, "value")
    assert " challenge_solve " in line_of(text, "last event")
    assert " took " in line_of(text, "last answer")
    assert ", in " in line_of(text, "changes by itself")
    by_name = statsd("why", DojoStats(dojo.dojo_id).name).output
    assert line_of(by_name, "last event").split(",")[0] == line_of(text, "last event").split(",")[0]


async def test_why_shows_pending_jobs_and_failures(
    statsd: Run, queue: Queue, async_cache: Redis
) -> None:
    async def pending() -> str:
        return line_of(statsd("why", STATS.name).output, "pending").removeprefix("pending").strip()

    assert await pending() == "no"
    await queue.enqueue([PendingJob(STATS)])
    assert (await pending()).startswith("interactive, due for ")
    attempt = (await queue.lease(BATCHES)).attempt
    assert attempt is not None
    assert await pending() == "interactive, running on one"
    await queue.fail(attempt, [600.0], {"error": "ValueError: no"})
    assert await pending() == "interactive, next run in 10 min"
    assert "1 times: ValueError: no" in line_of(statsd("why", STATS.name).output, "failed")
    await async_cache.zadd(keys.due(1), {STATS.name: 1})
    attempt = (await queue.lease(BATCHES)).attempt
    assert attempt is not None
    await queue.fail(attempt, [], {"error": "ValueError: no", "traceback": "Traceback"})
    assert "ValueError: no" in line_of(statsd("why", STATS.name).output, "dead letter")
    assert await pending() == "no"


async def test_why_shows_the_jobs_that_write_an_array_in_place_of_its_owner(
    statsd: Run, queue: Queue
) -> None:
    """The arrays of a dojo belong to the whole pass; another job writes those that changed."""
    key = keys.scoreboard(-5)
    await queue.enqueue([PendingJob(Boards(-5))])
    attempt = (await queue.lease(LeaseRequest({Boards.kind: 1}))).attempt
    assert attempt is not None
    await queue.complete(attempt, {Boards(-5).name: Answer({key: []})})
    assert line_of(statsd("why", key).output, "pending").endswith("  no")
    await queue.enqueue([PendingJob(Exports(-5)), PendingJob(Exports(-6))])
    attempt = (await queue.lease(LeaseRequest({Exports.kind: 1}))).attempt
    assert attempt is not None
    await queue.fail(attempt, [600.0], {"error": "ValueError: no"})
    for subject in (key, Boards(-5).name, Scoreboard(-5).name):
        text = statsd("why", subject).output
        assert line_of(text, "exports:-5").endswith("  export, next run in 10 min")
        assert "1 times: ValueError: no" in line_of(text, "failed")
        assert "exports:-6" not in text
    await queue.enqueue([PendingJob(DojoCheck(-5))])
    assert "  interactive, due for " in line_of(statsd("why", key).output, "dojo_check:-5")


async def test_why_refuses_unknown_keys_and_shows_broken_values(
    statsd: Run, queue: Queue, async_cache: Redis
) -> None:
    code, _, text = statsd("why", "stats:dojo:\x1b[31mno\n")
    assert code == 2
    assert "no daemon has written 'stats:dojo:\\x1b[31mno\\n'" in text
    assert len(text.splitlines()) == 1
    await queue.enqueue([PendingJob(STATS)])
    attempt = (await queue.lease(BATCHES)).attempt
    assert attempt is not None
    await queue.complete(attempt, {STATS.name: Answer({"stats:dojo:a": 1})})
    assert "1 bytes, as of 20" in line_of(statsd("why", "stats:dojo:a:updated").output, "value")
    await async_cache.delete("stats:dojo:a")
    text = statsd("why", "stats:dojo:a").output
    assert "missing, as of 20" in line_of(text, "value")
    assert "no daemon works" in line_of(text, "trouble")
    await async_cache.set("stats:dojo:a", "{")
    await async_cache.set("stats:dojo:a:updated", "nonsense")
    await async_cache.xadd(keys.STREAM, {"data": b"no event"})
    text = statsd("why", "stats:dojo:a").output
    assert "1 bytes, garbled, no as-of" in line_of(text, "value")
    assert "1 not accepted yet" in line_of(text, "events")
