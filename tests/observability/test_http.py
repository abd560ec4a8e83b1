"""The HTTP port beside a real daemon; what is asked wrongly hurts nobody."""

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
    publishing: None,  # noqa: ARG001 - for as long as the daemon is there
    port: int,
    tmp_path: Path,
) -> Iterator[Daemon]:
    """A daemon whose web application publishes."""
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_server.url}
    variables |= {"STATSD_HTTP_PORT": str(port), "STATSD_HEARTBEAT_INTERVAL": "1"}
    with daemon(tmp_path / "log", **variables) as process:
        yield process.started()


def test_a_heartbeat_says_how_all_goes_on(webapp: WebApp, running: Daemon) -> None:
    dojo = webapp.create_dojo()
    webapp.solve(webapp.create_user(), webapp.challenge_ids(dojo)[0])

    def told() -> list[dict[str, Any]]:
        return [line for line in running.lines("heartbeat") if "standing" in line["latency"]]

    eventually(told, "a heartbeat tells the latency of the solve")
    line = told()[0]
    assert any(each["events_per_second"] > 0 for each in running.lines("heartbeat"))
    assert line["refreshes_per_second"] > 0
    assert 0 < line["latency"]["standing"][0] <= line["latency"]["standing"][2] < 1000 * DEADLINE
    assert line["memory_megabytes"] > 10
    assert list(line["pending"]) == list(line["overdue_seconds"])
    assert "interactive" in line["pending"]


def test_other_paths_and_nonsense_get_a_short_answer(running: Daemon, port: int) -> None:
    assert listening(running.process.pid)
    assert get(port, "/") == (404, "there are /metrics, /healthz, /readyz\n")
    for request in (b"POST /metrics HTTP/1.0\r\n\r\n", b"\0\xff\r\n\r\n", b"GET /%00\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            assert b"Traceback" not in client.recv(65536)
    with ExitStack() as silent:  # together they may be silent for longer than we wait
        for _ in range(2 * int(ANSWER / REQUEST_TIMEOUT)):
            silent.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE))
        assert get(port, "/healthz") == (200, "well\n")
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


def test_a_port_that_is_leased_is_warned_of(
    database: str, redis_server: embedded.Redis, tmp_path: Path
) -> None:
    with socket.socket() as leased:
        leased.bind(("127.0.0.1", 0))
        leased.listen()
        variables = {"STATSD_HTTP_HOST": "127.0.0.1", "DATABASE_URL": database}
        variables |= {
            "STATSD_HTTP_PORT": str(leased.getsockname()[1]),
            "REDIS_URL": redis_server.url,
        }
        with daemon(tmp_path / "log", **variables) as process:
            process.started()
            event = "no metrics: the HTTP port cannot be had"
            eventually(lambda: event in process.log.read_text(), "it warns")
            assert process.stop() == 0


def test_port_0_opens_none(database: str, redis_server: embedded.Redis, tmp_path: Path) -> None:
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_server.url, "STATSD_HTTP_PORT": "0"}
    with daemon(tmp_path / "log", **variables) as process:
        process.started()
        assert not listening(process.process.pid)
        assert not [
            line for line in process.all_lines() if line["logger"] == "statsd.observability.http"
        ]


def listening(pid: int) -> set[str]:
    """Return the sockets on which a process listens, as /proc/net has them."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    listened = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"}
    return listened & {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}


def test_it_is_served_while_a_daemon_waits_for_its_servers_at_the_start(
    redis_server: embedded.Redis, port: int, tmp_path: Path
) -> None:
    """A supervisor that asks shall not start it anew: it goes on by itself."""
    nobody = free_port()
    variables = {"DATABASE_URL": f"postgresql://web@127.0.0.1:{nobody}/ctfd"}
    variables |= {"REDIS_URL": redis_server.url, "STATSD_HTTP_PORT": str(port)}
    with daemon(tmp_path / "log", **variables) as process:
        eventually(lambda: process.lines("waiting for PostgreSQL"), "it waits")
        eventually(lambda: get(port, "/readyz")[0] == 503, "it is not ready")
        status, text = get(port, "/healthz")
        assert (status, text.splitlines()[0]) == (200, "well")
        eventually(lambda: "PostgreSQL does not serve" in get(port, "/readyz")[1], "it says why")
