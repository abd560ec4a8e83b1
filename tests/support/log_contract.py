"""The contract of the log in `docs/logs.md`, and the check of lines against it."""

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).resolve().parents[2] / "docs" / "logs.md"
BASE = {"time", "level", "logger", "event"}
TYPES: dict[str, tuple[type, ...]] = {
    "number": (int, float),
    "text": (str,),
    "list": (list,),
    "object": (dict,),
    "boolean": (bool,),
}
NULLABLE = {"event_type", "since_published_milliseconds"}


class Documented(NamedTuple):
    """The levels and fields of an event, from the page."""

    levels: set[str]
    required: set[str]
    optional: set[str]


def _rows(columns: int) -> list[list[str]]:
    """Return the cells of all tables with this number of columns, without their heads."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if len(row) == columns]


def _names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@cache
def events() -> dict[str, Documented]:
    """Return all events."""
    found: dict[str, Documented] = {}
    for names, levels, fields, _ in _rows(4):
        every = _names(fields)
        optional = {name.rstrip("?") for name in every if name.endswith("?")}
        documented = Documented(
            set(levels.split(", ")), set(every) - {f"{name}?" for name in optional}, optional
        )
        found |= dict.fromkeys(_names(names), documented)
    return found


@cache
def fields() -> dict[str, str]:
    """Return the type of each field."""
    found: dict[str, str] = {}
    for names, types, _ in _rows(3):
        each = _names(names)
        several = types.split(", ")
        found |= dict(
            zip(each, several if len(several) == len(each) else several * len(each), strict=True)
        )
    return found


def breach(line: dict[str, Any]) -> str:
    """Return how a line violates the contract; an empty text if it conforms."""
    known = events().get(line["event"])
    if known is None:
        return f"{line['event']!r} is not documented"
    own = line.keys() - BASE - {"traceback"}
    if missing := known.required - own:
        return f"{line['event']!r} lacks {sorted(missing)}"
    if strange := own - known.required - known.optional:
        return f"{line['event']!r} has {sorted(strange)}"
    if line["level"] not in known.levels:
        return f"{line['event']!r} is of level {line['level']}"
    wrong = [name for name in own if not _is_of(line[name], name)]
    return f"{line['event']!r}: the types of {sorted(wrong)}" if wrong else ""


def _is_of(value: object, name: str) -> bool:
    if value is None:
        return name in NULLABLE
    is_boolean = isinstance(value, bool)
    return isinstance(value, TYPES[fields()[name]]) and is_boolean == (fields()[name] == "boolean")
