"""The writer of the log: a thread with a bounded buffer, so that nothing waits for a reader."""

import logging
import os
import sys
import threading
from collections import deque
from contextlib import suppress
from itertools import accumulate
from select import select

log = logging.getLogger(__name__)

STANDARD_OUTPUT = 1
MOST_LINES = 10_000
MOST_BYTES = 8 * 2**20
BATCH = 2**16  # bytes for one write; what a pipe holds
FLUSH_TIMEOUT = 2.0  # seconds
NEWLINE = ord("\n")


class LogWriter(logging.Handler):
    """Takes lines into a buffer, and writes them in a thread. Lines without room are dropped.

    It writes to the descriptor itself: `sys.stdout` has a lock and a buffer, for which the end of
    the process would wait.
    """

    def __init__(self, descriptor: int = STANDARD_OUTPUT) -> None:
        super().__init__()
        self.dropped = 0
        """Lines since the start: the buffer was full, or they could not be written."""
        self._unreported = 0
        self._descriptor = descriptor
        self._buffer: deque[bytes] = deque()
        self._lines = self._bytes = 0  # in the buffer, and in the batch that is being written
        self._is_torn = False  # whether the last line was written in part
        # The handler's lock is re-entrant: the collector of garbage may log at any moment.
        self._changed = threading.Condition(self.lock)
        threading.Thread(target=self._write_for_ever, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; the base class holds the lock."""
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        except Exception:  # noqa: BLE001 - a field may raise anything
            self.handleError(record)
            return
        if self._lines >= MOST_LINES or self._bytes + len(line) > MOST_BYTES:
            self._drop(1)
            return
        self._buffer.append(line)
        self._lines += 1
        self._bytes += len(line)
        self._changed.notify_all()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Log why a record could not be formatted. The base class would print it."""
        if record.name == __name__:  # the line below
            self._drop(1)
            return
        where = [f"{record.pathname}:{record.lineno} {record.funcName}"]
        log.error("a line could not be formatted", exc_info=sys.exception(), extra={"where": where})

    def flush(self) -> None:
        """Wait until all lines are written, but not for longer than FLUSH_TIMEOUT.

        `logging` calls it at the end of the process.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._lines, FLUSH_TIMEOUT)

    def _write_for_ever(self) -> None:
        while True:
            batch = self._take()
            lost = self._write(batch)
            self._forget(batch, lost)

    def _take(self) -> list[bytes]:
        batch, size = [], 0
        with self._changed:
            self._changed.wait_for(lambda: self._buffer)
            while self._buffer and size < BATCH:
                batch.append(self._buffer.popleft())
                size += len(batch[-1])
        return batch

    def _write(self, batch: list[bytes]) -> int:
        """Write lines; return how many were lost: nobody can read them, or the disk is full."""
        end_of_torn = b"\n" if self._is_torn else b""
        data, done = memoryview(end_of_torn + b"".join(batch)), 0
        with suppress(OSError):
            while done < len(data):
                try:
                    done += os.write(self._descriptor, data[done:])
                except BlockingIOError:  # another process made the pipe non-blocking
                    select([], [self._descriptor], [])
        if done:
            self._is_torn = data[done - 1] != NEWLINE
        return sum(end > done - len(end_of_torn) for end in accumulate(map(len, batch)))

    def _forget(self, batch: list[bytes], lost: int) -> None:
        """Make room. The first line that takes it tells how many found none."""
        with self._changed:
            self._lines -= len(batch)
            self._bytes -= sum(map(len, batch))
            self._drop(lost)
            if self._unreported and not lost:
                lines, self._unreported = self._unreported, 0
                log.warning("log lines were dropped", extra={"lines": lines})
            self._changed.notify_all()

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        self._unreported += lines
