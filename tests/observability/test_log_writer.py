"""Lines are written in order by a thread; those without room are dropped, counted and reported."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any

import orjson
import pytest

from statsd.observability import log_writer
from statsd.observability.log_writer import FLUSH_TIMEOUT, LogWriter
from statsd.observability.logs import JsonFormatter, TextFormatter
from tests.support.log_contract import breach
from tests.support.pipes import Pipe, pipe
from tests.support.processes import DEADLINE, eventually

log = logging.getLogger("statsd.some")
DROPPED = "log lines were dropped"
HUGE = "x" * 2**20


class Hostile:
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Lines:
    """A writer of a pipe, and what was read from it."""

    def __init__(self, output: Pipe, log: Path) -> None:
        self.output = output
        self.writer = LogWriter(output.writer)
        self.writer.setFormatter(JsonFormatter())
        self.is_reading = False
        self._log = log

    def begin_to_read(self) -> None:
        self.is_reading = True
        self.output.copy_into(self._log)

    @property
    def text(self) -> bytes:
        return self._log.read_bytes()

    def read(self, number: int) -> list[dict[str, Any]]:
        """Wait until so many lines were read; return them."""
        eventually(lambda: len(self._complete()) >= number, f"{number} lines are read")
        return [orjson.loads(line) for line in self._complete()]

    def _complete(self) -> list[bytes]:
        lines = self.text.splitlines(keepends=True)
        return [line for line in lines if line.strip() and line.endswith(b"\n")]

    def events(self, number: int) -> list[str]:
        return [line["event"] for line in self.read(number)]


@contextmanager
def logging_to(writer: LogWriter) -> Iterator[None]:
    """Send the log of this package to a writer."""
    package = logging.getLogger("statsd")
    level = package.level
    package.addHandler(writer)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(writer)
        package.setLevel(level)


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    """The log of this package, in a pipe that is full and not read."""
    with pipe() as output:
        output.fill()
        found = Lines(output, tmp_path / "log")
        with logging_to(found.writer):
            yield found
        if not found.is_reading:
            output.lose_reader()  # ends what the thread still writes
        found.writer.flush()


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Path]:
    """A named pipe, whose reader may be restarted, and the log of this package in it."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    first = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    descriptor = os.open(path, os.O_WRONLY)
    os.close(first)
    writer = LogWriter(descriptor)
    writer.setFormatter(JsonFormatter())
    with logging_to(writer):
        yield path
    writer.flush()
    os.close(descriptor)


def test_the_lines_of_many_threads_are_all_there_and_in_the_order_of_each(lines: Lines) -> None:
    lines.begin_to_read()

    def speak(name: int) -> None:
        for number in range(500):
            log.info("spoke", extra={"spoken": (name, number)})

    threads = [Thread(target=speak, args=[name]) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    spoken = [line["spoken"] for line in lines.read(2000)]
    for name in range(4):
        assert [number for each, number in spoken if each == name] == list(range(500))
    assert lines.writer.dropped == 0


def test_without_room_for_lines_the_newest_are_dropped_and_reported_in_their_place(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "MOST_LINES", 3)
    for number in range(10):
        log.info(str(number))
    assert lines.writer.dropped == 7
    lines.begin_to_read()
    assert lines.events(4) == ["0", "1", "2", DROPPED]
    log.info("later")
    found = lines.read(5)
    assert (found[3]["lines"], found[4]["event"]) == (7, "later")
    assert not breach(found[3])


def test_without_room_for_bytes_lines_are_dropped(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "MOST_BYTES", 2 * len(HUGE))
    log.info(HUGE)
    log.info(HUGE)
    log.info("small")
    lines.begin_to_read()
    assert lines.events(3) == [HUGE, "small", DROPPED]
    assert lines.writer.dropped == 1


def test_a_line_that_no_buffer_holds_is_dropped_at_once(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "MOST_BYTES", len(HUGE))
    lines.begin_to_read()
    log.info(HUGE)
    log.info("next")
    assert lines.events(2) == ["next", DROPPED]


def test_a_record_that_cannot_be_formatted_is_reported_with_its_place(
    lines: Lines, capfd: pytest.CaptureFixture[str]
) -> None:
    lines.begin_to_read()
    log.info("wrong", extra={"value": Hostile()})
    lines.writer.handle(logging.makeLogRecord({"msg": "%d", "args": ("wrong",)}))
    found = lines.read(2)
    for line in found:
        assert not breach(line)
        assert line["event"] == "a line could not be formatted"
    assert __file__ in found[0]["where"][0]
    assert "ValueError: no text" in found[0]["traceback"]
    assert capfd.readouterr().err == ""


def test_a_formatter_that_always_fails_only_loses_lines(
    lines: Lines, capfd: pytest.CaptureFixture[str]
) -> None:
    lines.writer.setFormatter(logging.Formatter("%(lacking)s"))
    log.info("spoke")
    assert lines.writer.dropped == 1
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("form", [JsonFormatter(), TextFormatter()], ids=["json", "text"])
def test_lone_surrogates_are_written(lines: Lines, form: logging.Formatter) -> None:
    lines.writer.setFormatter(form)
    lines.begin_to_read()
    caught = ValueError("\ud800")
    # Not through a logger: pytest keeps what was logged, and could not send it to its controller.
    record = logging.LogRecord(
        log.name, logging.ERROR, "", 0, "before \udcff after", None, (ValueError, caught, None)
    )
    lines.writer.handle(record)
    eventually(lambda: rb"\ud800" in lines.text, "the line is read")
    assert rb"before \udcff after" in lines.text


def test_a_full_pipe_delays_the_flush_only_until_its_deadline(lines: Lines) -> None:
    log.info("never read")
    began = monotonic()
    lines.writer.flush()
    assert FLUSH_TIMEOUT <= monotonic() - began < FLUSH_TIMEOUT + DEADLINE


def test_a_flush_waits_for_the_last_line(lines: Lines) -> None:
    lines.begin_to_read()
    log.info(HUGE)
    log.info("last")
    lines.writer.flush()
    assert lines.events(2)[-1] == "last"


def test_lines_for_a_closed_descriptor_are_counted() -> None:
    reader, closed = os.pipe()
    os.close(reader)
    os.close(closed)
    writer = LogWriter(closed)
    for _ in range(2):
        writer.handle(logging.makeLogRecord({"msg": "spoke"}))
        writer.flush()
    assert writer.dropped == 2


def flush() -> None:
    """Wait until the lines of this package are written or lost."""
    for handler in logging.getLogger("statsd").handlers:
        handler.flush()


def test_the_next_reader_of_a_named_pipe_gets_the_number_of_lost_lines(fifo: Path) -> None:
    for number in range(3):
        log.info(str(number))
        flush()
    with fifo.open("rb") as reader:
        log.info("read")
        first, second = (orjson.loads(reader.readline()) for _ in range(2))
    assert (first["event"], second["event"], second["lines"]) == ("read", DROPPED, 3)


def test_a_line_that_was_written_in_part_does_not_spoil_the_next_one(fifo: Path) -> None:
    with fifo.open("rb", buffering=0) as reader:
        log.info(HUGE)
        assert reader.read(1) == b"{"
    flush()
    with fifo.open("rb") as reader:
        log.info("next")
        torn, following = reader.readline(), reader.readline()
    assert 0 < len(torn) < len(HUGE)
    assert orjson.loads(following)["event"] == "next"


def test_a_pipe_that_does_not_block_loses_no_line(lines: Lines) -> None:
    """Another process may have made it so."""
    os.set_blocking(lines.output.writer, False)
    for number in range(3):
        log.info(str(number))
    lines.begin_to_read()
    assert lines.events(3) == ["0", "1", "2"]
    assert lines.writer.dropped == 0
