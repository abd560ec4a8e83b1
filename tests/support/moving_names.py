"""A name that moves from one server to another: a port that forwards new connections."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread

CHUNK = 65_536  # bytes
CONNECT_TIMEOUT = 5.0  # seconds


class MovingName:
    """A TCP port of 127.0.0.1. Open connections stay with the server that they were opened to."""

    def __init__(self, target: int) -> None:
        """`target` is the port of the first server."""
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._lock = Lock()
        self._open: set[socket.socket] = set()
        self._is_closed = False
        self._forgotten = Event()
        self._acceptor = Thread(target=self._accept, name="moving name")
        self._acceptor.start()

    def move_to(self, target: int) -> None:
        """Forward new connections to another port."""
        self._target = target

    def forget(self) -> None:
        """Drop what is sent on open connections, without a word, as a firewall does."""
        self._forgotten.set()
        self._forgotten = Event()

    def close(self) -> None:
        """Close the port and all connections."""
        with self._lock:
            self._is_closed = True
            for each in self._open:
                _shut(each)
        _shut(self._listener)
        self._acceptor.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), CONNECT_TIMEOUT)
            except OSError:  # the server is away, and its clients shall see that
                client.close()
                continue
            server.settimeout(None)
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        """Copy in both directions, until both sides have ended."""
        with client, server:
            with self._lock:
                if self._is_closed:
                    return
                self._open |= {client, server}
            forgotten = self._forgotten
            back = Thread(target=_copy, args=(server, client, forgotten), daemon=True)
            back.start()
            _copy(client, server, forgotten)
            back.join()
            with self._lock:
                self._open -= {client, server}


def _copy(source: socket.socket, target: socket.socket, forgotten: Event) -> None:
    """Copy until one side ends; then neither side can go on."""
    with suppress(OSError):
        while data := source.recv(CHUNK):
            if not forgotten.is_set():
                target.sendall(data)
    _shut(source)
    _shut(target)


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


@contextmanager
def moving_name(target: int) -> Iterator[MovingName]:
    """Forward to a port while the block runs."""
    name = MovingName(target)
    try:
        yield name
    finally:
        name.close()
