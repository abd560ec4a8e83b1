"""Lines of the log: one line each, in JSON or text, without passwords."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from statsd.observability.logs import JsonFormatter, TextFormatter
from tests.support.log_contract import breach
from tests.support.processes import environment

ROOT = Path(__file__).resolve().parents[2]
CONTROL = "".join(map(chr, range(32))) + "\x7f"
HOSTILE = "one\ntwo\rthree\x1b[2J\x00\x0b\x0c\x85\u2028\u2029"
PROGRAM = """
import logging, sys
from statsd.observability import logs

logs.configure(*sys.argv[1:])
logging.getLogger("statsd.some").debug("quiet")
logging.getLogger("statsd.some").info("spoke", extra={"words": 3})
logging.getLogger("sqlalchemy.engine").info("chatter")
logging.getLogger("redis").warning("trouble")
"""
FAULTY = """
import asyncio, threading, warnings
from statsd.observability import logs

class Faulty:
    def __del__(self):
        fail()

def fail(*_):
    raise ValueError("wrong")

async def main():
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0)

logs.configure("INFO", "json")
thread = threading.Thread(target=fail, name="faulty")
thread.start()
thread.join()
Faulty()
asyncio.run(main())
warnings.warn("careful")
"""

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def record(message: str = "it happened", /, **fields: Any) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": "statsd.some",
            "levelname": "WARNING",
            "levelno": logging.WARNING,
            "created": 1893553445.25,
            "msg": message,
            **fields,
        }
    )


def as_json(logged: logging.LogRecord) -> dict[str, Any]:
    """Return the content of the line; more than one line is an error."""
    line = JsonFormatter().format(logged)
    assert not set(line) & set(CONTROL.replace("\x7f", ""))
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def as_text(logged: logging.LogRecord) -> str:
    """Return the line; more than one line is an error."""
    line = TextFormatter().format(logged)
    assert line.isprintable(), repr(line)
    return line


def failed(error: Exception) -> logging.LogRecord:
    """Return a record with an exception that was really raised."""
    try:
        raise error
    except type(error) as raised:
        return record(exc_info=(type(raised), raised, raised.__traceback__))


def test_a_line_of_json_has_time_level_logger_event_and_the_fields() -> None:
    assert as_json(record(entry="1-0", count=3)) == {
        "time": "2030-01-02T03:04:05.250Z",
        "level": "warning",
        "logger": "statsd.some",
        "event": "it happened",
        "entry": "1-0",
        "count": 3,
    }


def test_a_line_of_text_has_time_level_event_and_the_fields() -> None:
    assert as_text(record(entry="1-0", count=3)) == (
        "2030-01-02T03:04:05.250Z WARNING it happened  entry='1-0' count=3"
    )
    assert as_text(record()) == "2030-01-02T03:04:05.250Z WARNING it happened"


def test_the_arguments_of_a_message_are_inserted() -> None:
    logged = record("waiting for %s", args=("Redis",))
    assert as_json(logged)["event"] == "waiting for Redis"
    assert "waiting for Redis" in as_text(logged)


@given(st.text(), st.dictionaries(st.sampled_from(["entry", "error", "state"]), values))
@example(HOSTILE, {"error": HOSTILE})
@example(CONTROL, {"error": CONTROL})
def test_every_record_is_one_line_of_json(message: str, fields: dict[str, Any]) -> None:
    parsed = as_json(record(message, **fields))
    assert {name: parsed[name] for name in fields} == fields
    assert parsed["event"] == message


@given(st.text())
@example(HOSTILE)
@example(CONTROL)
def test_a_hostile_field_makes_no_second_line_of_text(text: str) -> None:
    assert as_text(record(error=text)).endswith(f"error={text!r}")
    as_text(record(errors=[text], named={text: text}))


@pytest.mark.parametrize("text", ["one\ntwo", "one\rtwo", "\x1b[2J", HOSTILE])
def test_a_hostile_message_makes_no_second_line_of_text(text: str) -> None:
    as_text(record(text))
    as_text(record("%s", args=(text,)))


@pytest.mark.parametrize("form", [JsonFormatter(), TextFormatter()], ids=["json", "text"])
@pytest.mark.parametrize(
    "value",
    [2**70, -(2**70), float("nan"), b"x\n", {1, 2}, {(1, 2): 3}, {None: 1}, ValueError("x\ny")],
    ids=repr,
)
def test_a_value_without_a_json_form_is_logged(form: logging.Formatter, value: object) -> None:
    line = form.format(record(value=value))
    assert "it happened" in line
    assert "\n" not in line


@pytest.mark.parametrize("form", [JsonFormatter(), TextFormatter()], ids=["json", "text"])
def test_invalid_unicode_is_logged(form: logging.Formatter) -> None:
    line = form.format(record("before \udcff after", error="\ud800"))
    assert line.encode().startswith((b"{", b"2030"))


def test_an_exception_is_in_the_line_of_json_as_its_traceback() -> None:
    parsed = as_json(failed(ValueError(HOSTILE)))
    assert parsed["event"] == "it happened"
    assert parsed["traceback"].startswith("Traceback (most recent call last):\n")
    assert f"ValueError: {HOSTILE}" in parsed["traceback"]


def test_an_exception_follows_the_line_of_text_as_its_traceback() -> None:
    first, second, *_, last = TextFormatter().format(failed(ValueError("wrong"))).splitlines()
    assert first.endswith("it happened")
    assert second == "Traceback (most recent call last):"
    assert last == "ValueError: wrong"


@pytest.mark.parametrize("form", [JsonFormatter(), TextFormatter()], ids=["json", "text"])
@pytest.mark.parametrize("password", ["hunter2", "p%40hunter2", "hunter2%20x%22%5C"])
def test_passwords_are_masked_in_messages_fields_and_tracebacks(
    form: logging.Formatter, password: str
) -> None:
    url = f"postgresql://web:{password}@db/ctfd"
    for logged in (
        record(f"no answer of {url}"),
        record("no answer of %s", args=(url,)),
        record(url=url, settings={"DATABASE_URL": url, "urls": [url]}),
        record(url=f"postgresql://db/ctfd?password={password}&sslmode=require"),
        failed(OSError(f"no answer of {url}")),
    ):
        line = form.format(logged)
        assert "hunter2" not in line
        assert "***" in line
        assert "db/ctfd" in line


def test_a_password_in_the_query_of_a_field_leaves_the_line_json() -> None:
    url = "postgresql://db/ctfd?user=web&password=hunter2"
    assert as_json(record(url=url, then="more")) == {
        **as_json(record()),
        "url": "postgresql://db/ctfd?user=web&password=***",
        "then": "more",
    }


def test_a_password_in_the_query_of_a_field_leaves_the_rest_of_the_text() -> None:
    line = as_text(record(url="postgresql://db/ctfd?password=hunter2", then="more"))
    assert line.endswith("url='postgresql://db/ctfd?password=***' then='more'")


def test_the_log_goes_to_standard_output_in_the_configured_form_and_level() -> None:
    first, second = output_of(PROGRAM, "INFO", "json")
    assert (json.loads(first)["event"], json.loads(first)["words"]) == ("spoke", 3)
    assert json.loads(second)["event"] == "trouble"
    [line] = output_of(PROGRAM, "WARNING", "text")
    assert line.endswith("Z WARNING trouble")


def test_what_python_would_print_on_standard_error_is_logged() -> None:
    thread, ignored, task, warning = map(json.loads, output_of(FAULTY))
    assert (thread["event"], thread["thread_name"]) == ("a thread failed", "faulty")
    assert ignored["event"] == "an error was ignored"
    for line in (thread, ignored):
        assert breach(line) == ""
    assert task["logger"] == "asyncio"
    for line in (thread, ignored, task):
        assert "ValueError: wrong" in line["traceback"]
    assert "UserWarning: careful" in warning["event"]


def output_of(program: str, *arguments: str) -> list[str]:
    """Run a program; return the lines of its output, and assert that it prints no errors."""
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        check=True,
        cwd=ROOT,
        env=environment({}),
        text=True,
    )
    assert not ended.stderr
    return ended.stdout.splitlines()
