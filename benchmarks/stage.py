"""The environment of the measures: servers with a sample, a web application, daemons."""

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple, Self

import orjson

from benchmarks import exact, floors, samples, waiting
from benchmarks.result import Aim
from benchmarks.samples import Sample
from benchmarks.waiting import wait
from benchmarks.webapp import Presence, Webapp
from statsd.dev import MALLOC, embedded

END_DEADLINE = 60  # seconds
FILL_INTERVAL = 0.02  # seconds between two looks at a cold start
LOG_TAIL = 2000  # characters
OUR_VARIABLES = ("STATSD_", "BACKGROUND_STATS_", "SKIP_COLD_START", "DATABASE_URL", "REDIS_URL")


@dataclass(frozen=True)
class Effort:
    """The size of each measure."""

    rounds: int = 3  # of a cold start
    solves: int = 500  # one after another
    burst: int = 5000  # events
    rates: Sequence[int] = (500, 1000, 1500, 2000, 2500, 3000, 4000)  # events per second
    seconds: float = 10.0  # for each rate
    nothing: int = 100_000  # events of unknown users
    reads: int = 500
    awards: int = 25  # single ones; forty times as many at once
    pressure: int = 20_000  # events
    pressure_seconds: float = 40.0
    daemons: Sequence[int] = (1, 2, 4)
    cost: int = 25  # solves, one each two seconds
    cost_rates: Sequence[float] = (0.5, 5, 50)  # solves a second
    cost_seconds: float = 60.0  # for each rate
    cost_in_turn: int = 90  # solves, each as soon as the stream is empty


FULL = Effort()
QUICK = Effort(
    rounds=1,
    solves=10,
    burst=500,
    rates=(500,),
    seconds=2.0,
    nothing=20_000,
    reads=50,
    awards=2,
    pressure=500,
    pressure_seconds=2.0,
    daemons=(1, 2),
    cost=3,
    cost_rates=(5,),
    cost_seconds=3.0,
    cost_in_turn=10,
)


class Memory(NamedTuple):
    """The resident set of a process in MB: now, and its maximum."""

    resident: float
    peak: float


class Daemon:
    """`statsd run` as a child process, with its log in a file."""

    def __init__(self, log: Path, variables: Mapping[str, str]) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "statsd", "run"],
                env=environment() | dict(variables),
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches only the benchmark; it ends the daemon
            )
        waiting.daemons.append(self.process)

    def memory(self) -> Memory:
        """Return the memory of the process."""
        return memory_of(self.process.pid)

    def stop(self) -> None:
        """End the daemon; raises RuntimeError, with the end of its log, if it failed."""
        waiting.daemons.remove(self.process)
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(END_DEADLINE)
        if code != 0:
            end = self.log.read_text()[-LOG_TAIL:]
            raise RuntimeError(f"a daemon ended with {code}; the end of its log:\n{end}")

    def time_by_kind(self) -> Counter[str]:
        """Return the seconds that all workers together spent on each kind, from the log."""
        spent: Counter[str] = Counter()
        for line in self.log.read_text().splitlines():
            if line.startswith("{"):
                found = orjson.loads(line)
                if found["event"] in {"jobs completed", "jobs completed slowly"}:
                    spent[found["kind"]] += found["milliseconds"] / 1000
        return spent


def environment() -> dict[str, str]:
    """Return the environment of a daemon: the variables of this process without statsd's."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(OUR_VARIABLES)
    }
    return inherited | MALLOC | {"STATSD_HTTP_PORT": "0"}


def memory_of(pid: int) -> Memory:
    """Return the memory of a process, from `/proc`."""
    found = {
        name: int(value.split()[0]) / 1024
        for name, _, value in (
            line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        if name in {"VmRSS", "VmHWM"}
    }
    return Memory(found["VmRSS"], found["VmHWM"])


class Stage:
    """Servers with a sample, and the daemons of the measures."""

    def __init__(
        self, sample: Sample, servers: embedded.EmbeddedServers, effort: Effort, logs: Path
    ) -> None:
        self.sample = sample
        self.servers = servers
        self.effort = effort
        self.webapp = Webapp(servers)
        self.size = {
            table: self.webapp.rows(f"SELECT count(*) FROM {table}")[0][0]
            for table in ("dojos", "users", "submissions")
        }
        self.verdicts: list[exact.Verdict] = []
        """The comparisons made before daemons ended."""
        self._logs = logs
        self._started = 0
        self._stack = ExitStack()
        self._daemon: Daemon | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an error, the daemons end without waiting and without a comparison.
        self._stack.__exit__(kind, error, trace)
        self.webapp.close()

    def aim(self, **aims: Aim | Sequence[Aim]) -> Sequence[Aim]:
        """Return the aims for this scale."""
        found: Any = aims.get(self.sample.scale, ())
        return [found] if isinstance(found, Aim) else found

    def start(self, **variables: str) -> Daemon:
        """Start one more daemon."""
        own = {"DATABASE_URL": self.servers.database_url, "REDIS_URL": self.servers.redis_url}
        self._started += 1
        return Daemon(self._logs / f"daemon{self._started}.log", own | variables)

    def filling(self) -> Presence:
        """Watch a cold start, which is done when every key of the contract exists."""
        return Presence(self.webapp.cache, [*chain(*self.webapp.expected_keys().values())])

    @contextmanager
    def daemons(self, count: int) -> Iterator[list[Daemon]]:
        """Run `count` daemons and no others; yield after a cold start.

        At the end all cached values are compared.
        """
        self.end_daemon()
        self.webapp.cache.flushall()
        found = [self.start() for _ in range(count)]
        try:
            wait(self.filling().is_complete, "the cold start", interval=FILL_INTERVAL)
            wait(self.webapp.is_idle, "an empty queue")
            yield found
            wait(self.webapp.is_idle, "an empty queue")
            self.verdicts.append(exact.verdict(self.servers, self.webapp))
        finally:
            for each in found:
                each.stop()

    def daemon(self) -> Daemon:
        """Return the shared daemon, with an empty queue; start it if necessary."""
        if self._daemon is None:
            [self._daemon] = self._stack.enter_context(self.daemons(1))
        wait(self.webapp.is_idle, "an empty queue")
        return self._daemon

    def end_daemon(self) -> None:
        """End the shared daemon, if there is one."""
        self._daemon = None
        self._stack.close()


@contextmanager
def at(sample: Sample, effort: Effort, *, index: str = "") -> Iterator[Stage]:
    """Yield a stage with a sample, and with the named optional index."""
    cluster = samples.cluster(sample)
    with (
        embedded.servers(cluster) as servers,
        tempfile.TemporaryDirectory() as logs,
        Stage(sample, servers, effort, Path(logs)) as stage,
    ):
        for statement in floors.statements(index) if index else ():
            stage.webapp.database.cursor().execute(statement)
        yield stage


def timed(call: Callable[[], Any]) -> float:
    """Return the duration of a call, in seconds."""
    began = perf_counter()
    call()
    return perf_counter() - began
