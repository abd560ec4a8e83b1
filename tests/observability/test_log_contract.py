"""The documentation of the log and the log calls in the code agree."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import log_contract

PACKAGE = Path(__file__).resolve().parents[2] / "statsd"
WEB_HALF = PACKAGE / "client"  # its lines follow the log of its application
LEVELS = {"debug", "info", "warning", "error", "critical", "log"}
LINE = {
    "time": "2026-11-27T15:09:52.123Z",
    "level": "error",
    "logger": "statsd.stream.consumer",
    "event": "an event went to the dead letters",
    "entry": "1-0",
    "event_type": None,
    "error": "ValueError: no",
}


def texts() -> Iterator[str]:
    """Yield the texts of the daemon's log calls; `%s` stands for an argument."""
    for path in PACKAGE.rglob("*.py"):
        if not {WEB_HALF, PACKAGE / "addresses", PACKAGE / "switches.py"} & {path, *path.parents}:
            for node in ast.walk(ast.parse(path.read_text())):
                if is_log_call(node):
                    yield text_of(node)


def is_log_call(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) == "log"
        and node.func.attr in LEVELS
    )


def text_of(node: ast.AST) -> str:
    assert isinstance(node, ast.Call)
    literals = [each.value for each in node.args if isinstance(each, ast.Constant)]
    assert literals, f"the event is not a literal: {ast.unparse(node)}"
    return str(literals[0])


def test_every_event_is_documented_and_every_documented_event_is_logged() -> None:
    logged = {re.compile(re.escape(text).replace("%s", ".+")): text for text in texts()}
    documented = log_contract.events().keys()
    assert not [text for text in logged if not any(text.fullmatch(event) for event in documented)]
    assert not [event for event in documented if not any(text.fullmatch(event) for text in logged)]


def test_events_use_all_documented_fields_and_no_others() -> None:
    used: set[str] = set()
    for documented in log_contract.events().values():
        used |= documented.required | documented.optional
    assert used == log_contract.fields().keys()
    assert set(log_contract.fields().values()) <= log_contract.TYPES.keys()


def test_a_documented_line_conforms_to_the_contract() -> None:
    assert log_contract.breach(LINE) == ""
    assert log_contract.breach(LINE | {"traceback": "Traceback ..."}) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"event": "it happened"},
        {"level": "info"},
        {"error": 5},
        {"error": None},
        {"user": "alice"},
    ],
)
def test_any_other_line_violates_the_contract(change: dict[str, object]) -> None:
    assert log_contract.breach(LINE | change)


def test_a_line_without_a_required_field_violates_the_contract() -> None:
    assert log_contract.breach({name: each for name, each in LINE.items() if name != "entry"})
