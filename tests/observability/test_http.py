"""The HTTP port of a real daemon; wrong requests do no harm."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from statsd.dev import embedded
from statsd.observability.http import REQUEST_TIMEOUT
from tests.support.processes import ANSWER, DEADLINE, Daemon, daemon, eventually, free_port, get
from tests.support.webapp import WebApp


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def running(
    database: str,
    redis_server: embedded.Redis,
    publishing: None,  # noqa: ARG001 - while the daemon runs
    port: int,
    tmp_path: Path,
) -> Iterator[Daemon]:
    """A daemon whose web application publishes."""
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_server.url}
    variables |= {"STATSD_HTTP_PORT": str(port), "STATSD_HEARTBEAT_INTERVAL": "1"}
    with daemon(tmp_path / "log", **variables) as process:
        yield process.started()


def test_a_heartbeat_has_rates_latency_and_figures(webapp: WebApp, running: Daemon) -> None:
    dojo = webapp.create_dojo()
    webapp.solve(webapp.create_user(), webapp.challenge_ids(dojo)[0])

    def with_latency() -> list[dict[str, Any]]:
        return [line for line in running.lines("heartbeat") if "user_entries" in line["latency"]]

    [line, *_] = eventually(with_latency, "a heartbeat has the latency of the solve")
    assert any(each["events_per_second"] > 0 for each in running.lines("heartbeat"))
    assert line["jobs_per_second"] > 0
    p50, _, p99 = line["latency"]["user_entries"]
    assert 0 < p50 <= p99 < 1000 * DEADLINE
    assert line["memory_megabytes"] > 10
    assert list(line["pending_jobs"]) == list(line["overdue_seconds"])
    assert "interactive" in line["pending_jobs"]


def test_other_paths_and_invalid_requests_get_a_short_answer(running: Daemon, port: int) -> None:
    assert listening(running.process.pid)
    assert get(port, "/") == (404, "there are /metrics, /healthz, /readyz\n")
    for request in (b"POST /metrics HTTP/1.0\r\n\r\n", b"\0\xff\r\n\r\n", b"GET /%00\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            assert b"Traceback" not in client.recv(65536)
    with ExitStack() as silent:  # the sum of their timeouts may be longer than the test waits
        for _ in range(2 * int(ANSWER / REQUEST_TIMEOUT)):
            silent.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE))
        assert get(port, "/healthz") == (200, "well\n")
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


def test_a_port_that_is_in_use_gives_a_warning(
    database: str, redis_server: embedded.Redis, tmp_path: Path
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        variables = {"STATSD_HTTP_HOST": "127.0.0.1", "DATABASE_URL": database}
        variables |= {
            "STATSD_HTTP_PORT": str(other.getsockname()[1]),
            "REDIS_URL": redis_server.url,
        }
        with daemon(tmp_path / "log", **variables) as process:
            process.started()
            event = "no metrics: the HTTP port cannot be opened"
            eventually(lambda: event in process.log.read_text(), "it warns")
            assert process.stop() == 0


def test_port_0_opens_no_port(database: str, redis_server: embedded.Redis, tmp_path: Path) -> None:
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_server.url, "STATSD_HTTP_PORT": "0"}
    with daemon(tmp_path / "log", **variables) as process:
        process.started()
        assert not listening(process.process.pid)
        assert not [
            line for line in process.all_lines() if line["logger"] == "statsd.observability.http"
        ]


def listening(pid: int) -> set[str]:
    """Return the listening sockets of a process, as /proc/net names them."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    listened = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"}
    return listened & {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}


def test_the_port_answers_while_the_daemon_waits_for_its_servers_at_the_start(
    redis_server: embedded.Redis, port: int, tmp_path: Path
) -> None:
    """A supervisor must not restart the daemon because of the answer: it continues by itself."""
    nobody = free_port()
    variables = {"DATABASE_URL": f"postgresql://web@127.0.0.1:{nobody}/ctfd"}
    variables |= {"REDIS_URL": redis_server.url, "STATSD_HTTP_PORT": str(port)}
    with daemon(tmp_path / "log", **variables) as process:
        eventually(lambda: process.lines("waiting for PostgreSQL"), "it waits")
        eventually(lambda: get(port, "/readyz")[0] == 503, "the daemon is not ready")
        status, text = get(port, "/healthz")
        assert (status, text.splitlines()[0]) == (200, "well")
        eventually(
            lambda: "PostgreSQL does not serve" in get(port, "/readyz")[1],
            "the answer names PostgreSQL",
        )
