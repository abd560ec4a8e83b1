"""Problems are reported within seconds in every place, and their end too."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from statsd import keys
from statsd.dev import embedded
from statsd.events import ChallengeSolve, DojoStatsUpdate
from statsd.observability.liveness import BLOCKED_AFTER
from tests.faults.form import pass_time
from tests.faults.harness import BLOCKED, Site
from tests.support.processes import Daemon, environment, eventually, free_port, get

pytestmark = pytest.mark.timeout(900)

SECONDS = 60.0  # until each report; on an idle machine most come within three
BLOCKING = """
import signal, time
from pathlib import Path
from statsd.__main__ import main

def block(*_):
    while not Path({released!r}).exists():
        time.sleep(0.1)

signal.signal(signal.SIGUSR1, block)
main()
"""
"""A daemon whose event loop a signal blocks, since signal handlers run in the loop's thread."""


class ObservedDaemon:
    """A daemon with an HTTP port, and all reports of its health."""

    def __init__(
        self, site: Site, program: tuple[str, ...] = ("-m", "statsd"), **settings: str
    ) -> None:
        self.port = free_port()
        settings |= {"STATSD_HTTP_PORT": str(self.port)}
        self._variables = site.variables(**settings)
        self.daemon: Daemon = site.start(program=program, **settings).started()
        eventually(lambda: get(self.port, "/readyz") == (200, "ready\n"), "the daemon is ready")

    def health(self) -> tuple[int, str]:
        """Run the command of a container's health check; return exit code and output."""
        done = subprocess.run(
            [sys.executable, "-m", "statsd", "health"],
            env=environment(self._variables),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def says(self, path: str, status: int, text: str) -> None:
        """Wait for an answer of the HTTP port."""
        eventually(
            lambda: get(self.port, path)[0] == status and text in get(self.port, path)[1],
            f"{path} says {status} {text!r}, not {get(self.port, path)}",
            SECONDS,
        )

    def logs(self, event: str, **fields: str) -> None:
        """Wait for a line of the log."""
        eventually(
            lambda: any(fields.items() <= line.items() for line in self.daemon.lines(event)),
            f"the log says {event!r}",
            SECONDS,
        )

    def is_well(self) -> None:
        """Wait until every report says that the daemon is well."""
        self.says("/healthz", 200, "well\n")
        self.says("/readyz", 200, "ready\n")
        eventually(lambda: self.health() == (0, "well\n"), "the command reports no problem")


@pytest.fixture
def observed(site: Site) -> ObservedDaemon:
    return ObservedDaemon(site)


@contextmanager
def frozen(server: embedded.Server) -> Iterator[None]:
    """Freeze a server: it accepts connections and never answers."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    pids = [server.pid, *map(int, children)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("name", ["PostgreSQL", "Redis"])
def test_a_lost_server_makes_the_daemon_unready_but_needs_no_restart(
    site: Site, observed: ObservedDaemon, name: str
) -> None:
    server = site.servers.postgres if name == "PostgreSQL" else site.servers.redis
    server.stop()
    observed.says("/readyz", 503, f"{name} does not serve")
    observed.says("/healthz", 200, f"{name} does not serve")
    code, text = observed.health()
    assert code == 1
    assert f"{name} does not serve" in text
    observed.logs("a server does not answer", server=name)
    assert "statsd_ready 0.0" in get(observed.port, "/metrics")[1]
    assert f'statsd_server_up{{server="{name}"}} 0.0' in get(observed.port, "/metrics")[1]
    server.start()
    observed.logs("a server answers again", server=name)
    observed.is_well()
    site.finish(heals=True)


@pytest.mark.parametrize("name", ["PostgreSQL", "Redis"])
def test_a_frozen_server_is_reported_within_seconds(
    site: Site, observed: ObservedDaemon, name: str
) -> None:
    server = site.servers.postgres if name == "PostgreSQL" else site.servers.redis
    with frozen(server):
        observed.says("/readyz", 503, f"{name} does not serve: no answer")
        observed.says("/healthz", 200, "well")
        observed.logs("a server does not answer", server=name)
    observed.is_well()
    site.finish(heals=True)


def test_a_blocked_event_loop_is_reported_and_needs_a_restart(site: Site, tmp_path: Path) -> None:
    released = tmp_path / "released"
    observed = ObservedDaemon(site, ("-c", BLOCKING.format(released=str(released))))
    observed.daemon.process.send_signal(signal.SIGUSR1)
    observed.says("/healthz", 503, "the event loop has been blocked")
    observed.says("/readyz", 503, "the event loop has been blocked")
    observed.logs("the event loop is blocked")
    [line] = observed.daemon.lines("the event loop is blocked")
    assert any("block" in frame for frame in line["where"])
    eventually(
        lambda: "has not reported" in observed.health()[1], "the command reports it", SECONDS
    )
    released.touch()
    observed.logs("the event loop runs again")
    observed.is_well()
    site.finish(heals=True)


def test_a_silent_consumer_is_reported_and_needs_a_restart(
    site: Site, observed: ObservedDaemon
) -> None:
    [challenge_id] = site.webapp.challenge_ids(site.quiet)
    with site.webapp.engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE dojo_challenges IN ACCESS EXCLUSIVE MODE"))
        site.publisher.publish(ChallengeSolve(1, challenge_id))  # its handler reads that table
        observed.says("/healthz", 503, "the consumer has been silent")
        observed.says("/readyz", 503, "the consumer has been silent")
        observed.logs("the consumer is silent")
        code, text = observed.health()
        assert (code, "the consumer has been silent" in text) == (1, True)
    observed.logs("the consumer runs again")
    observed.is_well()
    site.finish()


def test_a_paused_daemon_does_not_answer_and_is_reported(
    site: Site, observed: ObservedDaemon
) -> None:
    os.kill(observed.daemon.process.pid, signal.SIGSTOP)
    eventually(lambda: get(observed.port, "/healthz", 2.0)[0] == 0, "the daemon does not answer")
    eventually(
        lambda: "has not reported" in observed.health()[1], "the command reports it", SECONDS
    )
    os.kill(observed.daemon.process.pid, signal.SIGCONT)
    observed.is_well()
    site.finish(heals=True)


def test_a_draining_daemon_is_not_reported_as_blocked(site: Site) -> None:
    """Its event loop runs until it ends, and is observed."""
    observed = ObservedDaemon(site, STATSD_DRAIN_DEADLINE="45")
    with site.webapp.engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE dojo_users IN ACCESS EXCLUSIVE MODE"))
        site.publisher.publish(DojoStatsUpdate(site.quiet.dojo_id))
        eventually(lambda: site.execute(BLOCKED), "a calculation waits")
        observed.daemon.process.send_signal(signal.SIGTERM)
        observed.logs("stopping")
        pass_time(BLOCKED_AFTER + 1.5)
        assert get(observed.port, "/healthz")[0] == 200
    assert observed.daemon.process.wait(SECONDS) == 0
    assert not observed.daemon.lines("the event loop is blocked")
    site.finished = True  # no daemon is left to complete the jobs


def test_an_error_of_the_reporter_ends_the_daemon_like_any_other_error(
    site: Site, observed: ObservedDaemon
) -> None:
    """The exit code is 1. With 0, a supervisor might not restart the daemon."""
    site.cache.delete(keys.DAEMONS)
    site.cache.set(keys.DAEMONS, "no hash")
    code = observed.daemon.process.wait(SECONDS)
    site.cache.delete(keys.DAEMONS)
    assert code == 1
    assert observed.daemon.lines("the daemon failed")
    site.finished = True
