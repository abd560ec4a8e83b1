"""The log: one JSON object a line, or text for people."""

import atexit
import json
import logging
import sys
import threading
from datetime import UTC, datetime
from typing import Any

import orjson

from statsd.observability.log_writer import LogWriter
from statsd.urls import masked

log = logging.getLogger(__name__)

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: str, style: str) -> None:
    """Log to standard output from `level` on, in the style `json` or `text`.

    The log also gets what Python would print on standard error, which may have no reader either.
    """
    handler = LogWriter()
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("sqlalchemy", "asyncio", "redis"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
    threading.excepthook = _log_failed_thread
    sys.unraisablehook = _log_ignored_error
    # When Python ends, it stops the writer, which may hold the lock that a later line needs.
    atexit.register(logging.disable)


def dropped_lines() -> int:
    """Return how many lines the log has dropped since the start."""
    handlers = logging.getLogger().handlers
    return sum(each.dropped for each in handlers if isinstance(each, LogWriter))


def _log_failed_thread(failed: threading.ExceptHookArgs) -> None:
    name = failed.thread.name if failed.thread else ""
    log.error("a thread failed", exc_info=failed.exc_value, extra={"thread_name": name})


def _log_ignored_error(ignored: "sys.UnraisableHookArgs") -> None:
    """Log an error for which Python has no caller, such as one of `__del__`."""
    log.error("an error was ignored", exc_info=ignored.exc_value)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonFormatter(logging.Formatter):
    """`time`, `level`, `logger`, `event`, the fields of the event, and `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON, passwords in URLs masked."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line = line | _fields(record) | line
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        try:
            text = orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:  # integers beyond 64 bits and lone surrogates, which orjson refuses
            text = json.dumps(line, default=str, skipkeys=True)
        return masked(text)


class TextFormatter(logging.Formatter):
    """The same for people: time, level, event, `field=value` ..."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line, control characters escaped, and the traceback."""
        fields = " ".join(f"{name}={value!r}" for name, value in _fields(record).items())
        event = repr(record.getMessage())[1:-1]
        text = f"{_time(record)} {record.levelname:<7} {event}  {fields}".rstrip()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return masked(text)
