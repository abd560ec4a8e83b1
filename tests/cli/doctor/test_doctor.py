"""`statsd doctor`, on healthy systems and on faulty ones."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from time import monotonic, time
from typing import Any

import orjson
import psycopg2
import pytest
import redis
from redis.asyncio import Redis

from statsd import keys, settings
from statsd.cli.doctor.checks import examine
from statsd.dev import embedded
from statsd.servers.finding import Finding, Level
from statsd.stream.event_stream import Stream
from tests.support.commands import Run, run_with
from tests.support.daemon_parts import Parts
from tests.support.poolers import pgbouncer
from tests.support.processes import daemon, eventually

OK, WARNING, DANGER = Level
FIVE_MINUTES = 285  # seconds; up to 329 seconds are said to be five minutes
NOBODY = "redis://127.0.0.1:1"
NOWHERE = "postgresql://web:secret@127.0.0.1:1/ctfd"
SUBJECTS_OF_REDIS = (
    "writing",
    "memory",
    "persistence",
    "acknowledging",
    "daemons",
    "consumers",
    "events",
    "pending entries",
    "dead letters",
    "clock of this host",
    "clock of PostgreSQL",
)


@pytest.fixture
def own_redis() -> Iterator[embedded.Redis]:
    """A Redis for this test alone, with the right settings."""
    with embedded.redis(arguments=["--appendonly", "yes"]) as server:
        yield server


async def examined(variables: dict[str, str], **others: str) -> dict[str, Finding]:
    """Return the findings by subject; the last one, if a subject has several."""
    time_limit = float(others.pop("time_limit", "59"))
    given = variables | others
    found = [each async for each in examine(settings.load(given), given, time_limit=time_limit)]
    assert all(bool(each.advice) == (each.level is not OK) for each in found)
    return {each.subject: each for each in found}


def execute(database: str, *statements: str) -> None:
    connection = psycopg2.connect(database)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


# --- all is well


def test_a_healthy_system_has_no_warnings(
    own_redis: embedded.Redis, database: str, tmp_path: Path
) -> None:
    variables = {"DATABASE_URL": database, "REDIS_URL": own_redis.url}
    with daemon(tmp_path / "log", STATSD_CONSUMER_SUFFIX="own", **variables) as process:
        process.started()
        code, output, errors = run_with(variables)("doctor")
        assert [line for line in output.splitlines() if not line.startswith("ok       ")] == []
        assert (code, errors) == (0, "")
        assert "ok       daemons: 1: " in output
        assert "-own\n" in output


def test_findings_are_the_same_as_json(
    own_redis: embedded.Redis, database: str, tmp_path: Path
) -> None:
    variables = {"DATABASE_URL": database, "REDIS_URL": own_redis.url}
    with daemon(tmp_path / "log", STATSD_CONSUMER_SUFFIX="own", **variables) as process:
        process.started()

        def are_the_same() -> bool:
            lines = run_with(variables)("doctor").output.splitlines()
            findings = orjson.loads(run_with(variables)("doctor", "--json").output)
            return lines == [
                f"{each['level']:<7}  {each['subject']}: {each['sentence']}" for each in findings
            ]

        # The used memory is among them; between two readings it may pass the next MiB.
        eventually(are_the_same, "both forms have the same findings")


@pytest.mark.every_redis
async def test_the_version_of_every_redis_is_reported_and_all_checks_work_on_it(
    async_cache: Redis, variables: dict[str, str]
) -> None:
    stream = Stream(async_cache, async_cache, "one", block=0.05, dead_limit=10)
    await stream.ensure_group()
    found = await examined(variables)
    version = (await async_cache.info("server")).get("valkey_version") or stream.server_version
    assert found["Redis"].sentence.endswith(f" {version}")
    assert found["acknowledging"].sentence == stream.acknowledges_with
    wrong = {subject for subject, each in found.items() if each.level is not OK}
    assert wrong == {"daemons", "persistence"}


# --- Redis


async def test_eviction_is_a_warning_if_memory_is_limited(
    own_redis: embedded.Redis, database: str
) -> None:
    variables = {"DATABASE_URL": database, "REDIS_URL": own_redis.url}
    with redis.Redis.from_url(own_redis.url) as cache:
        cache.config_set("maxmemory-policy", "allkeys-lru")
        unlimited = await examined(variables)
        cache.config_set("maxmemory", "1gb")
        spacious = await examined(variables)
        cache.config_set("maxmemory-policy", "noeviction")
        memory: Any = cache.info("memory")
        cache.config_set("maxmemory", int(memory["used_memory"] * 1.05))
        narrow = await examined(variables)
    levels = [
        [each[name].level for name in ("memory", "eviction")]
        for each in (unlimited, spacious, narrow)
    ]
    assert levels == [[OK, OK], [OK, WARNING], [WARNING, OK]]
    assert "allkeys-lru, without a maxmemory" in unlimited["eviction"].sentence
    assert spacious["memory"].sentence.endswith(" of 1024 MiB are used")


async def test_a_replica_and_a_cluster_are_dangers(
    redis_server: embedded.Redis, database: str
) -> None:
    primary = ["--replicaof", "127.0.0.1", str(redis_server.port)]
    with (
        embedded.redis(arguments=primary) as replica,
        embedded.redis(arguments=["--cluster-enabled", "yes"]) as cluster,
    ):
        of_replica = await examined({"DATABASE_URL": database, "REDIS_URL": replica.url})
        of_cluster = await examined({"DATABASE_URL": database, "REDIS_URL": cluster.url})
    assert of_replica["role of Redis"].level is DANGER
    assert of_cluster["role of Redis"].level is OK
    assert of_replica["cluster mode"].level is OK
    assert of_cluster["cluster mode"].level is DANGER


async def test_forbidden_commands_of_a_managed_redis_are_reported_and_all_others_checked(
    own_redis: embedded.Redis, database: str
) -> None:
    with redis.Redis.from_url(own_redis.url) as cache:
        cache.acl_setuser(
            "watcher",
            enabled=True,
            passwords=["+secret"],
            keys=["*"],
            categories=["+@all"],
            commands=["-info", "-config", "-command"],
        )
        cache.xgroup_create(keys.STREAM, keys.GROUP, "0", mkstream=True)
    url = own_redis.url.replace("127", "watcher:secret@127")
    found = await examined({"DATABASE_URL": database, "REDIS_URL": url})
    assert found["Redis"].level is DANGER
    assert "INFO" in found["Redis"].sentence
    for subject in ("memory", "persistence", "acknowledging"):
        assert found[subject].level is DANGER
        assert found[subject].sentence.startswith("a right is missing: NoPermissionError")
    for subject in ("events", "pending entries", "consumers", "dead letters"):
        assert found[subject].level is OK
    assert not any(word in str(found) for word in ("watcher", "secret"))


# --- the stream


async def test_a_dead_consumer_with_pending_entries_is_a_warning(
    parts: Parts, variables: dict[str, str], cache: "redis.Redis"
) -> None:
    cache.set(keys.heartbeat("one"), "a heartbeat")
    cache.xadd(keys.STREAM, {"data": "{}"}, id=f"{int(time() - FIVE_MINUTES) * 1000}-0")
    cache.xreadgroup(keys.GROUP, "host\x1b-1", {keys.STREAM: ">"})
    cache.xadd(keys.DEAD_LETTERS, {"error": "an error"})
    await parts.stream.read(">", 1)
    found = await examined(variables)
    levels = {name: found[name].level for name in ("daemons", "consumers", "pending entries")}
    assert levels == {"daemons": OK, "consumers": WARNING, "pending entries": WARNING}
    assert found["daemons"].sentence == "1: one"
    assert "host\\x1b-1 (1 pending, silent for " in found["consumers"].sentence
    assert found["pending entries"].sentence == "1, the oldest published 5 min ago"
    assert found["dead letters"].level is WARNING
    assert "statsd dead list" in found["dead letters"].advice


async def test_a_stream_without_a_reader_is_a_warning(
    variables: dict[str, str], cache: "redis.Redis"
) -> None:
    cache.xadd(keys.STREAM, {"data": "{}"}, id=f"{int(time() - 5) * 1000}-0")
    without = await examined(variables)
    cache.xgroup_create(keys.STREAM, keys.GROUP, "0")
    fresh = await examined(variables)
    with cache.pipeline(transaction=False) as pipeline:
        for _ in range(9_999):
            pipeline.xadd(keys.STREAM, {"data": "{}"})
        pipeline.execute()
    many = await examined(variables)
    cache.delete(keys.STREAM)
    cache.xadd(keys.STREAM, {"data": "{}"}, id=f"{int(time() - FIVE_MINUTES) * 1000}-0")
    cache.xgroup_create(keys.STREAM, keys.GROUP, "0")
    old = await examined(variables)
    found = [each["events"] for each in (without, fresh, many, old)]
    assert [each.level for each in found] == [WARNING, OK, WARNING, WARNING]
    assert found[0].sentence == "1 not accepted yet, as there is no group stats-workers"
    assert found[2].sentence.startswith("10000 not accepted yet, 10000 of them unread; ")
    assert found[3].sentence.endswith("; the oldest for 5 min")
    assert old["daemons"].level is DANGER


# --- PostgreSQL


async def test_a_missing_column_and_an_unreadable_table_are_dangers(
    database: str, variables: dict[str, str]
) -> None:
    execute(database, "CREATE ROLE looks_on LOGIN")
    try:
        url = database.replace("//postgres@", "//looks_on@")
        barred = await examined(variables, DATABASE_URL=url)
    finally:
        execute(database, "DROP ROLE looks_on")
    execute(database, "ALTER TABLE awards DROP COLUMN icon", "DROP INDEX submissions_solves")
    missing = await examined(variables)
    for found, text in ((barred, "lacks SELECT"), (missing, "wanted: table awards with id")):
        assert found["tables"].level is DANGER
        assert text in found["tables"].sentence
        assert found["PostgreSQL"].level is OK
        assert found["prepared statements"].level is OK
    assert "looks_on" not in str(barred)
    assert barred["indexes"].level is OK
    assert missing["indexes"].level is WARNING
    assert "(challenge_id, user_id)" in missing["indexes"].sentence
    assert "dojo_challenges" not in missing["indexes"].sentence


async def test_prepared_statements_must_be_off_behind_a_pooler_that_does_not_keep_them(
    pgbouncer: str, variables: dict[str, str]
) -> None:
    subject, off = "prepared statements", {"STATSD_PREPARED_STATEMENTS": "0"}
    lost = (await examined(variables, DATABASE_URL=pgbouncer))[subject]
    assert lost.level is DANGER
    assert lost.advice == "set STATSD_PREPARED_STATEMENTS=0"
    through = await examined(variables, DATABASE_URL=pgbouncer, **off)
    assert (through[subject].level, through["tables"].level) == (OK, OK)
    direct = (await examined(variables, **off))[subject]
    assert direct.level is OK
    assert "STATSD_PREPARED_STATEMENTS=1 is faster" in direct.sentence


@pytest.mark.parametrize("is_pooled", [False, True], ids=["direct", "pooler"])
async def test_a_standby_is_a_danger(
    redis_server: embedded.Redis, tmp_path: Path, is_pooled: bool
) -> None:
    with embedded.postgres() as server:
        server.stop()
        (server.data / "standby.signal").touch()
        server.start()
        with pgbouncer(server.url, tmp_path) if is_pooled else nullcontext(server.url) as url:
            found = await examined({"DATABASE_URL": url, "REDIS_URL": redis_server.url})
    assert found["role of PostgreSQL"].level is DANGER
    assert "DATABASE_URL" in found["role of PostgreSQL"].advice


async def test_a_wrong_clock_is_a_warning(database: str, variables: dict[str, str]) -> None:
    """The search path has a function that replaces PostgreSQL's own clock."""
    name = database.rpartition("/")[2]
    execute(
        database,
        "CREATE SCHEMA late",
        "CREATE FUNCTION late.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS"
        " $$ SELECT pg_catalog.clock_timestamp() - interval '5 h' $$",
        f"ALTER DATABASE {name} SET search_path = late, pg_catalog, public",
    )
    found = await examined(variables)
    assert found["clock of this host"].level is OK
    assert found["clock of PostgreSQL"].level is WARNING
    seconds, sentence = found["clock of PostgreSQL"].sentence.split(" ", 1)
    assert abs(float(seconds) - 5 * 3600) < 60
    assert sentence == "s behind that of Redis"


# --- lost servers


async def test_without_redis_all_other_checks_are_made(variables: dict[str, str]) -> None:
    found = await examined(variables, REDIS_URL=NOBODY)
    assert found["Redis"].level is DANGER
    assert found["Redis"].sentence.startswith("does not serve: ConnectionError")
    for subject in SUBJECTS_OF_REDIS:
        assert found[subject].sentence == "not checked, as Redis does not serve"
    rest = set(found) - {"Redis", *SUBJECTS_OF_REDIS}
    assert rest == {
        "settings",
        "PostgreSQL",
        "role of PostgreSQL",
        "tables",
        "indexes",
        "prepared statements",
    }
    assert all(found[subject].level is OK for subject in rest)


def test_without_postgresql_all_other_checks_are_made(run: Run, cache: "redis.Redis") -> None:
    assert cache.ping()
    code, output, errors = run("doctor", DATABASE_URL=NOWHERE)
    assert (code, errors) == (1, "")
    assert "\nok       Redis: version " in output
    assert "\ndanger   PostgreSQL: does not serve: " in output
    assert (
        output.count("not checked, as PostgreSQL does not serve -> repair PostgreSQL first\n") == 3
    )
    assert not any(word in output for word in ("web", "secret"))


async def test_each_hanging_server_is_waited_for_once(
    own_redis: embedded.Redis, variables: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nowhere = f"postgresql://postgres@127.0.0.1:{silent.getsockname()[1]}/ctfd"
        os.kill(own_redis.pid, signal.SIGSTOP)
        began = monotonic()
        found = await examined(
            variables, REDIS_URL=own_redis.url, DATABASE_URL=nowhere, time_limit="2"
        )
    assert 4 < monotonic() - began < 20  # for each of its checks, it would be 34 seconds
    for server in ("Redis", "PostgreSQL"):
        assert found[server].level is DANGER
        assert found[server].sentence == "does not serve: no answer within 2 s"
    assert found["memory"].sentence == "not checked, as Redis does not serve"
    assert found["indexes"].sentence == "not checked, as PostgreSQL does not serve"


async def test_a_refused_login_is_reported_without_the_user_s_name(
    own_redis: embedded.Redis, variables: dict[str, str]
) -> None:
    url = own_redis.url.replace("127", "watcher:secret@127")
    found = await examined(variables, REDIS_URL=url)
    assert found["Redis"].level is DANGER
    assert found["Redis"].sentence.startswith("REDIS_URL: the server refused")
    assert found["memory"].sentence == "not checked, as Redis does not serve"
    nobody = variables["DATABASE_URL"].replace("//postgres@", "//watcher:secret@")
    found |= await examined(variables, DATABASE_URL=nobody)
    assert found["PostgreSQL"].level is DANGER
    assert found["indexes"].sentence == "not checked, as PostgreSQL does not serve"
    assert not any(word in str(found) for word in ("watcher", "secret"))


# --- settings


async def test_unknown_and_switched_off_settings_are_warnings(variables: dict[str, str]) -> None:
    found = await examined(variables, STATSD_LEASES="3")
    assert found["settings"].level is WARNING
    assert found["settings"].sentence == "STATSD_LEASES is no setting; is STATSD_LEASE meant?"
    switched_off = await examined(variables, BACKGROUND_STATS_ENABLED="0")
    assert switched_off["settings"].level is WARNING


def test_wrong_settings_end_the_command(run: Run) -> None:
    code, output, errors = run("doctor", STATSD_LEASE="long")
    assert (code, output) == (2, "")
    assert errors.startswith("statsd: STATSD_LEASE='long'")
