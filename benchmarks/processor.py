"""The processor time of the daemon, of Redis and of PostgreSQL, from `/proc`."""

import os
from pathlib import Path
from typing import NamedTuple

from benchmarks.stage import Daemon, Stage

TICKS = os.sysconf("SC_CLK_TCK")  # a second


class Spent(NamedTuple):
    """Seconds of processor time, of users and system, by process."""

    daemon: float
    redis: float
    postgresql: float

    def since(self, earlier: "Spent") -> "Spent":
        """Return the difference from an earlier reading."""
        return Spent(*(now - before for now, before in zip(self, earlier, strict=True)))

    def plus(self, other: "Spent") -> "Spent":
        """Return the sum."""
        return Spent(*(one + each for one, each in zip(self, other, strict=True)))

    def beyond(self, other: "Spent") -> "Spent":
        """Return what is more than another; nothing where a process used less."""
        return Spent(*(max(0.0, each) for each in self.since(other)))

    def times(self, factor: float) -> "Spent":
        """Return the multiple."""
        return Spent(*(each * factor for each in self))


def spent(stage: Stage, daemon: Daemon | None = None) -> Spent:
    """Read the time that the processes have used since they started.

    The daemon is this process where none is given. PostgreSQL is all of its processes, those that
    have ended too, without the connection of the web application.
    """
    own = _own(daemon.process.pid if daemon else os.getpid())
    return Spent(own, _own(stage.servers.redis.pid), _of_postgresql(stage))


def _of_postgresql(stage: Stage) -> float:
    server = stage.servers.postgres.pid
    application = stage.webapp.database.info.backend_pid
    while True:
        before = _fields(server)
        total = sum(before)
        for child in Path(f"/proc/{server}/task/{server}/children").read_text().split():
            try:
                total += _own(int(child)) if int(child) != application else 0.0
            except FileNotFoundError:
                break  # it has just ended, and its time became part of the server's
        if _fields(server)[2:] == before[2:]:
            return total


def _own(pid: int) -> float:
    return sum(_fields(pid)[:2])


def _fields(pid: int) -> list[float]:
    """Return seconds: user, system, and both of child processes that have ended."""
    # The name of the program comes before, in parentheses, and may contain anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(each) / TICKS for each in fields[11:15]]
