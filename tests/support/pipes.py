"""A pipe for a daemon's output, which is full, broken, or read only later."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from threading import Thread

from tests.support.processes import DEADLINE

PAGE = b"\n" * 4096  # of empty lines, which no reader of a log minds


class Pipe:
    """A pipe of which this process holds both ends."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        self._copying: Thread | None = None

    def fill(self) -> None:
        """Write until there is no room."""
        os.set_blocking(self.writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(self.writer, PAGE)
        os.set_blocking(self.writer, True)  # the daemon's end is the same one

    def copy_into(self, log: Path) -> None:
        """Read from now on, in a thread."""
        self._copying = Thread(target=self._copy, args=[log.open("ab", buffering=0)])
        self._copying.start()

    def _copy(self, log: RawIOBase) -> None:
        with log:
            while content := os.read(self._reader, len(PAGE)):
                log.write(content)

    def lose_reader(self) -> None:
        """Close the reader's end."""
        os.close(self._reader)

    def close(self) -> None:
        """Close the ends that are open, when the daemon has ended."""
        os.close(self.writer)
        if self._copying:
            self._copying.join(DEADLINE)
        with suppress(OSError):
            os.close(self._reader)


@contextmanager
def pipe() -> Iterator[Pipe]:
    """Open a pipe while the block runs."""
    new = Pipe()
    try:
        yield new
    finally:
        new.close()
