"""A daemon as a process, and waiting for a condition with a deadline."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Self, TypeVar

import orjson

from statsd.jobs.attempt import Completion
from tests.support.log_contract import breach

T = TypeVar("T")

DEADLINE = 60.0  # seconds; enough for any short step, even on a busy machine
POLL = 0.005  # seconds between two checks of a condition
ANSWER = 20.0  # seconds for an HTTP answer
OUR_VARIABLES = ("STATSD_", "BACKGROUND_STATS_", "SKIP_COLD_START", "DATABASE_URL", "REDIS_URL")


def free_port() -> int:
    """Return a TCP port on which no process listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def get(port: int, path: str, seconds: float = ANSWER) -> tuple[int, str]:
    """Return the status and the text of an HTTP answer; the status 0 means no answer in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def eventually(condition: Callable[[], T | None], expected: str, seconds: float = DEADLINE) -> T:
    """Poll `condition`; return its first true value.

    Fails when `seconds` have passed; the message names the `expected` state.
    """
    deadline = monotonic() + seconds
    while not (value := condition()):
        assert monotonic() < deadline, f"after {seconds:.0f} s still not: {expected}"
        sleep(POLL)
    return value


def statuses(completed: Iterable[Completion]) -> list[str]:
    """Return the status of each answer."""
    return [each.status for each in completed]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment; its `statsd` settings are `variables` alone.

    The HTTP port is switched off unless `variables` has one.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OUR_VARIABLES)}
    return kept | {"STATSD_HTTP_PORT": "0"} | dict(variables)


class Daemon:
    """A process that runs `statsd run` and logs into a file, or into the descriptor `output`."""

    def __init__(
        self,
        log: Path,
        variables: Mapping[str, str],
        program: Sequence[str] = ("-m", "statsd"),
        output: int | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, *program, "run"],
                env=environment(variables),
                stdout=file if output is None else output,
                stderr=subprocess.STDOUT,
            )

    def all_lines(self) -> list[dict[str, Any]]:
        """Return the log's complete lines of JSON, parsed."""
        return [
            orjson.loads(line)
            for line in self.log.read_bytes().splitlines(keepends=True)
            if line.startswith(b"{") and line.endswith(b"\n")
        ]

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log's lines with this event."""
        return [line for line in self.all_lines() if line["event"] == event]

    def keeps_to_its_contract(self) -> None:
        """Assert that every line of the log is as `docs/logs.md` describes it."""
        breaches = {breach(line) for line in self.all_lines()} - {""}
        assert not breaches, "; ".join(breaches)

    def started(self) -> Self:
        """Wait until it consumes events."""
        eventually(lambda: self.lines("started") or self._ended(), "the daemon has started")
        return self

    def _ended(self) -> bool:
        code = self.process.poll()
        assert code is None, f"the daemon ended with {code}:\n{self.log.read_text()}"
        return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        self.process.send_signal(number)
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextmanager
def daemon(log: Path, **variables: str) -> Iterator[Daemon]:
    """Run a daemon while the block runs; then check its log."""
    process = Daemon(log, variables)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.stop()
    process.keeps_to_its_contract()
