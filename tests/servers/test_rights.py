"""The rights in docs/deployment.md are enough for the daemon and the web half, and necessary."""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2
import pytest
import redis
import sqlalchemy as sa

from statsd import schema, scripts
from statsd.calculators.dojo_stats import DojoStats
from statsd.client import Reader
from statsd.dev import embedded
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import Queue
from statsd.servers.redis_client import redis_client
from tests.conftest import redis_program
from tests.faults.figures import Figures
from tests.faults.form import pass_time
from tests.faults.harness import Rights, Site, direct
from tests.support import acl
from tests.support.commands import run_with

pytestmark = pytest.mark.timeout(300)

KINDS = ("distribution", "default")
"""Redis 7.0 and 8.2."""

SHORT = 0.5  # seconds under load
COMMANDS = (
    ("status",),
    ("health",),
    ("doctor",),
    ("why", "stats:belts"),
    ("publish", "belts_update"),
    ("dead", "list"),
)
CALL = re.compile(r"call\('(\w+)'(?:, '(\w+)')?")
ONLY_OF_READERS = {"boards/page", "boards/crews"}
ONLY_AFTER_FAULTS = {"xclaim", "xgroup|delconsumer", "zremrangebyrank"}
"""For a dead daemon's entries, a silent consumer, and a table of users that is too long."""


class Run(NamedTuple):
    """What happened on one kind of Redis."""

    used: dict[str, acl.Use]
    refused: list[Any]
    """The entries of ACL LOG."""
    figures: Figures
    unpublished: int
    codes: dict[str, int]
    """The exit codes of commands."""
    swept: int
    """The jobs that a sweep enqueued after one key was deleted."""


def site_on(database: embedded.Postgres, cache: embedded.Redis, folder: Path) -> Site:
    """Return a site on which the daemon and the web half have no rights but those of the page."""
    servers = embedded.EmbeddedServers(database.url, cache.url, database, cache)
    addresses = direct(servers)._replace(
        daemon_redis=acl.url_of(cache, acl.DAEMON), web_redis=acl.url_of(cache, acl.WEB)
    )
    rights = Rights("".join(acl.sql("CREATE ROLE")), "".join(acl.sql("GRANT")))
    own = redis.Redis(unix_socket_path=str(cache.socket_path))
    acl.restrict(cache)
    return Site(servers, folder, "rights", print, addresses=addresses, cache=own, rights=rights)


def read(site: Site, reader: Reader) -> None:
    """Read each statistic, of each dojo."""
    user = site.load.users[0].id
    for dojo in site.load.dojos:
        reader.get_dojo_stats(dojo.reference_id)
        for days in (0, 7):
            reader.get_scoreboard(dojo.dojo_id, days=days, me=user)
            reader.get_crews(dojo.dojo_id, 0, days)
        reader.get_dojo_scores(dojo.dojo_id)
        reader.get_challenge_solves(dojo.dojo_id, 0)
    reader.get_belts()
    reader.get_emojis()
    reader.get_activity(user)
    reader.get_containers()


async def sweep(url: str) -> int:
    """Sweep as the daemon does, which waits for twenty seconds; return the number of jobs."""
    async with redis_client(url) as client:
        _, missing = await Queue(client, "sweep", lease=30, dead_limit=1).sweep("0", 10_000)
        return missing


async def enqueue_solves(site: Site) -> None:
    """Enqueue jobs as a daemon does for solves; a reader's misses then make them more urgent."""
    async with redis_client(site.addresses.daemon_redis) as client:
        queue = Queue(client, "solves", lease=30, dead_limit=1)
        await queue.enqueue(
            [
                PendingJob(DojoStats(dojo_id), changed=challenges[0])
                for dojo_id, challenges in site.load.challenges.items()
            ]
        )


def work(site: Site, reader: Reader) -> tuple[dict[str, int], int]:
    """Go the main paths: starts, a load, misses, commands, a kill, and the loss of all data."""
    read(site, reader)  # a miss, on an empty Redis
    first = site.start("a").started()
    with site.load.running():
        pass_time(SHORT)
        read(site, reader)
    site.complete()
    command = run_with(site.variables("a"))
    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda each: command(*each), COMMANDS))
    codes = {name: each.code for (name, *_), each in zip(COMMANDS, ended, strict=True)}
    site.cache.delete("stats:belts")
    swept = asyncio.run(sweep(site.addresses.daemon_redis))
    site.kill(first)
    again = site.start("a").started()  # the name of a dead daemon
    site.stop(again)
    site.execute("UPDATE users SET name = name || ' [crew]'")
    site.cache.flushall()
    asyncio.run(enqueue_solves(site))
    read(site, reader)
    without_arrays = site.start("b", STATSD_EXPORTS="0").started()
    with site.load.running():
        pass_time(SHORT)
    site.complete()
    read(site, reader)  # crews from the state
    site.stop(without_arrays)
    site.start("b").started()
    return codes, swept


def run_on(kind: str, folder: Path) -> Run:
    """Go the main paths under the rights of the page, on a kind of Redis."""
    with embedded.postgres() as database, embedded.redis(binary=redis_program(kind)) as one:
        site = site_on(database, one, folder)
        engine, recording = site.webapp.engine, acl.Recording(one)
        with (
            closing(site),
            closing(Reader.from_url(engine, site.addresses.web_redis)) as reader,
            recording,
        ):
            codes, swept = work(site, reader)
            clients: Any = site.cache.client_list()
            web = {each["addr"] for each in clients if each["user"] == acl.WEB}
            figures = site.finish(heals=True)
            refused: Any = site.cache.acl_log()
        return Run(recording.uses(web), refused, figures, site.publisher.failed, codes, swept)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Return a function that returns the run on a kind of Redis; there is one run of each."""
    return cache(lambda kind: run_on(kind, tmp_path_factory.mktemp(kind)))


def used(runs: Callable[[str], Run], user: str) -> acl.Use:
    """Return what a user sent on any kind."""
    uses = [runs(kind).used[user] for kind in KINDS]
    return acl.Use(
        set().union(*(each.commands for each in uses)), set().union(*(each.keys for each in uses))
    )


# --- enough


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_refused_and_all_values_are_exact(runs: Callable[[str], Run], kind: str) -> None:
    run = runs(kind)
    assert run.refused == []
    assert run.unpublished == 0
    assert run.figures.wrong == []
    assert run.codes == {command[0]: 0 for command in COMMANDS}
    assert run.swept == 1


def named_in(*sources: str) -> set[str]:
    """Return the commands that scripts name, on rare paths too."""
    found = {call for source in sources for call in CALL.findall(source)}
    return {
        f"{command}|{argument}".lower()
        if command.lower() in acl.WITH_SUBCOMMANDS
        else command.lower()
        for command, argument in found
    }


def named_by_the_daemon() -> set[str]:
    """Return the commands in all scripts but those of readers."""
    return named_in(*map(scripts.source, set(scripts.every()) - ONLY_OF_READERS))


def named_by_readers() -> set[str]:
    """Return the commands in the readers' own scripts, without what these include for others."""
    return named_in(*map(scripts.text, ONLY_OF_READERS))


def test_both_may_send_every_command_that_their_scripts_name() -> None:
    assert named_by_the_daemon() <= set(acl.commands_of(acl.DAEMON))
    assert named_by_readers() <= set(acl.commands_of(acl.WEB))


def test_the_grants_name_the_columns_of_the_contract() -> None:
    columns = re.compile(r"GRANT SELECT \((.*)\)\s+ON (\w+) TO statsd;")
    granted = {
        table: set(names.split(", "))
        for each in acl.sql("GRANT")
        for names, table in columns.findall(each)
    }
    assert granted == {
        table.name: {column.name for column in table.columns}
        for table in schema.metadata.sorted_tables
    }


# --- necessary


@pytest.mark.parametrize("command", acl.commands_of(acl.DAEMON))
def test_the_daemon_needs_each_command(runs: Callable[[str], Run], command: str) -> None:
    """It was sent on one of the main paths, or a script sends it on a rare one."""
    assert command in used(runs, acl.DAEMON).commands | named_by_the_daemon()


@pytest.mark.parametrize("command", acl.commands_of(acl.WEB))
def test_the_web_half_needs_each_command(runs: Callable[[str], Run], command: str) -> None:
    assert command in used(runs, acl.WEB).commands | named_by_readers()


@pytest.mark.parametrize(
    ("user", "pattern"), [(one.user, each) for one in acl.settings() for each in one.patterns]
)
def test_each_pattern_of_keys_is_needed(
    runs: Callable[[str], Run], user: str, pattern: str
) -> None:
    assert any(fnmatchcase(key, pattern) for key in used(runs, user).keys)


@pytest.mark.parametrize("table", schema.metadata.sorted_tables, ids=lambda table: table.name)
def test_the_daemon_reads_with_the_grants_and_not_without_one(
    database: str, table: sa.Table
) -> None:
    """Of the columns of a table, the first and the last are each revoked."""
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        for statement in (*acl.sql("CREATE ROLE"), *acl.sql("GRANT")):
            cursor.execute(statement)
        probe = str(
            sa.select(*table.columns).limit(0).compile(compile_kwargs={"literal_binds": True})
        )
        cursor.execute("SET ROLE statsd")
        cursor.execute(probe)
        for column in table.columns:
            cursor.execute("SAVEPOINT granted")
            cursor.execute("RESET ROLE")
            cursor.execute(f'REVOKE SELECT ("{column.name}") ON {table.name} FROM statsd')
            cursor.execute("SET ROLE statsd")
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(probe)
            cursor.execute("ROLLBACK TO granted")
        connection.rollback()
