"""The HTTP port: metrics, liveness and readiness.

Threads of its own serve it, so that it answers while the event loop is blocked.
"""

import logging
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Thread

from statsd.observability import metrics
from statsd.observability.counters import Counters
from statsd.observability.health import Health
from statsd.servers.errors import brief

log = logging.getLogger(__name__)

TEXT = "text/plain; charset=utf-8"
REQUEST_TIMEOUT = 5.0  # seconds for a client to send its request
POLL_INTERVAL = 0.1  # seconds until a stop is noticed

Answer = tuple[HTTPStatus, str, bytes]
"""Status, content type and content."""


class Endpoint:
    """Answers GET and HEAD of `/metrics`, `/healthz` and `/readyz`."""

    def __init__(self, counters: Counters, health: Health) -> None:
        self._counters = counters
        self._health = health
        self._paths: dict[str, Callable[[], Answer]] = {
            "/metrics": self._metrics,
            "/healthz": self._liveness,
            "/readyz": self._readiness,
        }

    def answer(self, path: str) -> Answer:
        """Answer a request for a path."""
        known = self._paths.get(path.partition("?")[0])
        if known:
            return known()
        return _text(HTTPStatus.NOT_FOUND, [f"there are {', '.join(self._paths)}"])

    def _metrics(self) -> Answer:
        content = metrics.exposition(self._counters, self._health)
        return HTTPStatus.OK, metrics.CONTENT_TYPE, content

    def _liveness(self) -> Answer:
        """Fail where a restart would help. A lost server is named, and is no failure."""
        problems = self._health.liveness.problems()
        lines = [*(problems or ["well"]), *self._health.probes.failures.values()]
        return _text(HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK, lines)

    def _readiness(self) -> Answer:
        unready = self._health.unready()
        status = HTTPStatus.SERVICE_UNAVAILABLE if unready else HTTPStatus.OK
        return _text(status, unready or ["ready"])


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_TIMEOUT
    server_version = "statsd"
    sys_version = ""

    def __init__(self, endpoint: Endpoint, *arguments: object) -> None:
        self._endpoint = endpoint
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        status, content_type, content = self._endpoint.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815 - the library looks for this name

    def log_message(self, *_arguments: object) -> None:
        """Log nothing: requests are not worth a line."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, endpoint: Endpoint) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), partial(_Handler, endpoint))

    def server_bind(self) -> None:
        """Bind without the base class's look-up of the host's name."""
        TCPServer.server_bind(self)

    def handle_error(self, _request: object, _client: object) -> None:
        """Log errors, except those of a client that hangs up."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.error("a request could not be answered", exc_info=error)


@contextmanager
def serving(host: str, port: int, endpoint: Endpoint) -> Iterator[int]:
    """Serve while the context is open, and yield the port.

    Port 0 serves nothing. When the port cannot be opened, a warning is logged and 0 is yielded.
    """
    server = _listen(host, port, endpoint) if port else None
    if server is None:
        yield 0
        return
    thread = Thread(target=server.serve_forever, args=[POLL_INTERVAL], name="http", daemon=True)
    thread.start()
    try:
        yield port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listen(host: str, port: int, endpoint: Endpoint) -> ThreadingHTTPServer | None:
    try:
        return _Server(host, port, endpoint)
    except OSError as error:
        log.warning(
            "no metrics: the HTTP port cannot be opened; set STATSD_HTTP_PORT to another, or to 0",
            extra={"host": host, "port": port, "error": brief(error)},
        )
        return None


def _text(status: HTTPStatus, lines: Sequence[str]) -> Answer:
    return status, TEXT, "".join(f"{line}\n" for line in lines).encode()
