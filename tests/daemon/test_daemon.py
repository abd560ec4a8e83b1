"""The daemon's life: start, waiting for servers, outages, several daemons, stop."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psycopg2
import pytest
import redis
import sqlalchemy as sa

from statsd import keys, schema
from statsd.dev import embedded
from tests.support.processes import DEADLINE, Daemon, daemon, environment, eventually
from tests.support.webapp import WebApp, cached, publish, solves_of, webapp_of


def refusal(**variables: str) -> tuple[int, str]:
    """Run a daemon with wrong settings; return its exit code and its output."""
    ended = subprocess.run(
        [sys.executable, "-m", "statsd", "run"],
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        check=False,
    )
    return ended.returncode, ended.stderr


def test_an_unknown_database_is_refused_in_one_line(
    database: str, redis_server: embedded.Redis
) -> None:
    url = database.rpartition("/")[0] + "/nowhere"
    code, output = refusal(DATABASE_URL=url, REDIS_URL=redis_server.url)
    assert code == 2
    assert output.count("\n") == 1
    assert "DATABASE_URL" in output
    assert '"nowhere" does not exist' in output


def test_a_wrong_password_of_postgresql_is_refused_in_one_line(
    redis_server: embedded.Redis,
) -> None:
    with embedded.postgres() as server:
        connection = psycopg2.connect(server.url)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE ROLE reader LOGIN PASSWORD 'right'")
        connection.close()
        rules = server.data / "pg_hba.conf"
        rules.write_text("host all reader 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
        server.stop()
        server.start()
        url = sa.make_url(server.url).set(username="reader", password="wrong-secret")  # noqa: S106
        code, output = refusal(
            DATABASE_URL=url.render_as_string(hide_password=False), REDIS_URL=redis_server.url
        )
    assert code == 2
    assert output.count("\n") == 1
    assert "DATABASE_URL: the password is wrong" in output
    assert "secret" not in output


OLD_REDIS = """
from statsd.__main__ import main
from statsd.servers import redis_fitness

redis_fitness.OLDEST = (99, 0)
main()
"""


def test_a_version_that_is_not_tested_is_a_warning_at_the_start(
    database: str, redis_server: embedded.Redis, tmp_path: Path
) -> None:
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_server.url}
    process = Daemon(tmp_path / "log", variables, ("-c", OLD_REDIS)).started()
    assert process.stop() == 0
    [warning] = process.lines("a server is not as it should be")
    assert (warning["level"], warning["server"]) == ("warning", "Redis")
    assert "99.0 or newer" in warning["advice"]
    process.keeps_to_its_contract()


def test_a_wrong_password_of_redis_is_refused_in_one_line(database: str) -> None:
    with embedded.redis(arguments=["--requirepass", "right"]) as server:
        url = server.url.replace("redis://", "redis://:wrong-secret@")
        code, output = refusal(DATABASE_URL=database, REDIS_URL=url)
        assert code == 2
        assert "REDIS_URL: the server refused" in output
        assert "secret" not in output
        code, output = refusal(DATABASE_URL=database, REDIS_URL=server.url)
        assert code == 2
        assert "REDIS_URL: the server refused" in output


def test_switched_off_the_daemon_exits_with_0() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "statsd", "run"],
        env=environment({"BACKGROUND_STATS_ENABLED": "0", "DATABASE_URL": "postgresql://db/ctfd"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0
    assert "BACKGROUND_STATS_ENABLED=0" in ended.stdout


def test_missing_tables_are_named_and_waited_for(
    empty_database: str, redis_server: embedded.Redis, cache: "redis.Redis", tmp_path: Path
) -> None:
    variables = {"DATABASE_URL": empty_database, "REDIS_URL": redis_server.url}
    with daemon(tmp_path / "log", **variables) as process:
        [line, *_] = eventually(lambda: process.lines("waiting for PostgreSQL"), "it waits")
        assert "does not exist" in line["error"]
        assert "wanted: table" in line["error"]
        webapp = webapp_of(empty_database)
        schema.metadata.create_all(webapp.engine)
        process.started()
        dojo = webapp.create_dojo()
        publish(cache, dojo)
        cached(cache, dojo)
        webapp.engine.dispose()


def test_missing_servers_are_named_and_waited_for(tmp_path: Path) -> None:
    with embedded.servers() as servers:
        webapp = webapp_of(servers.database_url)
        schema.metadata.create_all(webapp.engine)
        dojo = webapp.create_dojo()
        webapp.engine.dispose()
        servers.redis.stop()
        servers.postgres.stop()
        variables = {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
        with daemon(tmp_path / "log", **variables) as process:
            eventually(lambda: process.lines("waiting for Redis"), "the daemon waits for Redis")
            servers.redis.start()
            eventually(lambda: process.lines("Redis is back"), "Redis is back")
            eventually(
                lambda: process.lines("waiting for PostgreSQL"), "the daemon waits for PostgreSQL"
            )
            servers.postgres.start()
            process.started()
            with redis.Redis.from_url(servers.redis_url) as cache:
                cached(cache, dojo)


def test_the_daemon_continues_by_itself_when_a_server_is_back(tmp_path: Path) -> None:
    with embedded.servers() as servers:
        webapp = webapp_of(servers.database_url)
        schema.metadata.create_all(webapp.engine)
        variables = {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
        with (
            daemon(tmp_path / "log", **variables) as process,
            redis.Redis.from_url(servers.redis_url) as cache,
        ):
            process.started()
            dojo, user = webapp.create_dojo(), webapp.create_user()
            publish(cache, dojo)
            cached(cache, dojo)
            webapp.solve(user, webapp.challenge_ids(dojo)[0])
            servers.postgres.stop()
            publish(cache, dojo)
            eventually(
                lambda: process.lines("waiting for PostgreSQL"), "the daemon waits for PostgreSQL"
            )
            servers.postgres.start()
            eventually(lambda: solves_of(cache, dojo)() == 1, "the event has taken effect")
            servers.redis.stop()
            eventually(lambda: process.lines("waiting for Redis"), "the daemon waits for Redis")
            servers.redis.start()
            eventually(lambda: solves_of(cache, dojo)() == 1, "an empty Redis is filled again")
            assert cache.xlen(keys.DEAD_LETTERS) == 0
        webapp.engine.dispose()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_with_0(
    number: signal.Signals, database: str, redis_server: embedded.Redis, tmp_path: Path
) -> None:
    with daemon(tmp_path / "log", DATABASE_URL=database, REDIS_URL=redis_server.url) as process:
        process.started()
        assert process.stop(number) == 0
    assert process.lines("stopped")


def test_a_signal_ends_a_daemon_that_waits_for_a_server(database: str, tmp_path: Path) -> None:
    nowhere = "redis://127.0.0.1:1"
    with daemon(tmp_path / "log", DATABASE_URL=database, REDIS_URL=nowhere) as process:
        eventually(lambda: process.lines("waiting for Redis"), "it waits")
        assert process.stop() == 0


def test_the_next_daemon_handles_the_events_that_a_killed_one_had_read(
    database: str,
    webapp: WebApp,
    redis_server: embedded.Redis,
    cache: "redis.Redis",
    tmp_path: Path,
) -> None:
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_server.url, "SKIP_COLD_START": "1"}
    dojo = webapp.create_dojo()
    with daemon(tmp_path / "first", **variables) as first:
        name = first.started().lines("started")[0]["consumer"]
        first.stop(signal.SIGKILL)
    # As if the daemon had died between reading and accepting.
    publish(cache, dojo)
    cache.xreadgroup(keys.GROUP, name, {keys.STREAM: ">"})
    assert cache.xpending(keys.STREAM, keys.GROUP)["pending"] == 1
    with daemon(tmp_path / "second", **variables):
        cached(cache, dojo)
    assert cache.xpending(keys.STREAM, keys.GROUP)["pending"] == 0


def test_skipping_the_cold_start_leaves_absent_keys_absent(
    database: str,
    webapp: WebApp,
    redis_server: embedded.Redis,
    cache: "redis.Redis",
    tmp_path: Path,
) -> None:
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_server.url, "SKIP_COLD_START": "1"}
    quiet, busy = webapp.create_dojo(), webapp.create_dojo()
    with daemon(tmp_path / "log", **variables) as process:
        process.started()
        publish(cache, busy)
        cached(cache, busy)
        eventually(lambda: not cache.keys(f"{keys.INTERNAL}due:*"), "no job is pending")
        assert not cache.exists(keys.dojo_stats(quiet.reference_id))


def test_a_deleted_stream_and_its_group_are_created_again(
    database: str,
    webapp: WebApp,
    redis_server: embedded.Redis,
    cache: "redis.Redis",
    tmp_path: Path,
) -> None:
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_server.url}
    with daemon(tmp_path / "log", **variables) as process:
        process.started()
        cache.delete(keys.STREAM)
        eventually(lambda: cache.exists(keys.STREAM), "the stream is there again")
        dojo = webapp.create_dojo()
        publish(cache, dojo)
        cached(cache, dojo)


def test_two_daemons_share_the_work(
    database: str,
    webapp: WebApp,
    redis_server: embedded.Redis,
    cache: "redis.Redis",
    tmp_path: Path,
) -> None:
    dojos = [webapp.create_dojo() for _ in range(20)]
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_server.url}

    with (
        daemon(tmp_path / "a", STATSD_CONSUMER_SUFFIX="a", **variables) as first,
        daemon(tmp_path / "b", STATSD_CONSUMER_SUFFIX="b", **variables) as second,
    ):
        for process in (first, second):
            process.started()
        for dojo in dojos:
            publish(cache, dojo)
        for dojo in dojos:
            cached(cache, dojo)
        assert [process.stop() for process in (first, second)] == [0, 0]
    assert cache.xpending(keys.STREAM, keys.GROUP)["pending"] == 0
    assert cache.xlen(keys.STREAM) == 0


def test_entries_deleted_before_they_were_handled_lead_to_a_reconcile(
    database: str,
    webapp: WebApp,
    redis_server: embedded.Redis,
    cache: "redis.Redis",
    tmp_path: Path,
) -> None:
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_server.url}
    dojo, user = webapp.create_dojo(), webapp.create_user()
    with daemon(tmp_path / "first", **variables) as first:
        name = first.started().lines("started")[0]["consumer"]
        cached(cache, dojo)
    publish(cache, dojo)
    cache.xreadgroup(keys.GROUP, name, {keys.STREAM: ">"})
    cache.xtrim(keys.STREAM, maxlen=0)
    webapp.solve(user, webapp.challenge_ids(dojo)[0])
    with daemon(tmp_path / "second", SKIP_COLD_START="1", **variables) as second:
        eventually(lambda: solves_of(cache, dojo)() == 1, "the solve is counted")
        event = "entries were deleted before they were handled; reconciling"
        eventually(lambda: second.lines(event), "the reconcile is logged")
    assert cache.xpending(keys.STREAM, keys.GROUP)["pending"] == 0
    assert cache.xlen(keys.DEAD_LETTERS) == 0


def test_an_error_in_a_loop_is_logged_and_ends_the_process(
    database: str, redis_server: embedded.Redis, cache: "redis.Redis", tmp_path: Path
) -> None:
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_server.url}
    with daemon(tmp_path / "log", **variables) as process:
        process.started()
        clock = keys.CLOCK
        cache.delete(clock)
        cache.set(clock, "not a hash")
        assert process.process.wait(DEADLINE) == 1
        [line] = process.lines("the daemon failed")
        assert "WRONGTYPE" in line["traceback"]


@pytest.mark.parametrize("frozen", ["postgres", "redis"])
def test_a_frozen_server_does_not_delay_a_stop(frozen: str, tmp_path: Path) -> None:
    with embedded.servers() as servers:
        webapp = webapp_of(servers.database_url)
        schema.metadata.create_all(webapp.engine)
        webapp.engine.dispose()
        variables = {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
        with daemon(
            tmp_path / "log", STATSD_DRAIN_DEADLINE="2", STATSD_BLOCK="0.5", **variables
        ) as process:
            process.started()
            pid = getattr(servers, frozen).pid
            os.kill(pid, signal.SIGSTOP)
            try:
                assert process.stop() == 0
            finally:
                os.kill(pid, signal.SIGCONT)


def test_a_cold_start_computes_everything_once(
    database: str,
    redis_server: embedded.Redis,
    cache: "redis.Redis",
    webapp: WebApp,
    tmp_path: Path,
) -> None:
    """The new search and the new clock both enqueue a reconcile, which is one job."""
    dojos = [webapp.create_dojo() for _ in range(3)]
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_server.url}
    with daemon(tmp_path / "log", STATSD_AUDIT_INTERVAL="0", **variables) as running:
        for dojo in dojos:
            cached(cache, dojo)
        eventually(lambda: not cache.keys(keys.job("*")), "no job is left")
    times = Counter[str]()
    for line in running.lines("jobs completed"):  # complete, as the daemon has ended
        times[line["kind"]] += line["jobs"]
    assert (times["reconcile"], times["boards"]) == (1, len(dojos))
    assert times["exports"] == 0, "the whole pass has written all arrays"
