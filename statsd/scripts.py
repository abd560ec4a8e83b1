"""The Lua scripts: each a file of its own, loaded once, run by its SHA.

A script is named by its package and file: `jobs/complete` is `statsd/jobs/lua/complete.lua`. Each
file begins with a description of its request and its reply, and with the files that it includes
(`-- include jobs/queue`). Constants that Python and Lua share are generated from Python.

The request of every script is one MessagePack map. A reply with fields is a MessagePack map as
well. Scripts compute the names of private keys, so they run on one Redis server and not on a Redis
Cluster.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module, resources
from typing import Any

import msgspec

from statsd import definitions, keys
from statsd.job import AFTER_LOSS, Priority

encode = msgspec.msgpack.encode

EXTENSIONS = {"jobs/hooks": ("boards/hooks",)}
"""Files that extend another one; therefore the queue's own scripts name no statistic."""

_INCLUDE = re.compile(r"^-- include (\S+)$", re.MULTILINE)


@cache
def source(name: str) -> str:
    """Return the full text of a script, with its included files."""
    return "".join(map(text, parts(name)))


def parts(name: str) -> list[str]:
    """Return the names of the files that a script consists of, in their order."""
    found: dict[str, None] = {}
    _add_parts(name, found)
    return list(found)


def _add_parts(name: str, found: dict[str, None]) -> None:
    for included in _INCLUDE.findall(text(name)):
        if included not in found:
            _add_parts(included, found)
    found[name] = None
    for extension in EXTENSIONS.get(name, ()):
        _add_parts(extension, found)


def text(name: str) -> str:
    """Return the text of one file, or of one generated part."""
    if name in GENERATED:
        return GENERATED[name]()
    package, file = name.split("/")
    return (resources.files("statsd") / package / "lua" / f"{file}.lua").read_text()


def constants(values: Mapping[str, Any]) -> str:
    """Return Lua code that defines a constant for each value."""
    return "".join(f"local {name} = {lua(value)}\n" for name, value in values.items())


def lua(value: Any) -> str:
    """Return a value (text, number, boolean, list, mapping) as Lua writes it."""
    if isinstance(value, Mapping):
        fields = ", ".join(f"[{lua(key)}] = {lua(each)}" for key, each in value.items())
        return f"{{{fields}}}"
    if isinstance(value, list | tuple):
        return f"{{{', '.join(map(lua, value))}}}"
    return json.dumps(value)


def _keys() -> str:
    named = {
        "CLOCK": keys.CLOCK,
        "LEASES": keys.LEASES,
        "DELAYED": keys.DELAYED,
        "KEY_INDEX": keys.KEY_INDEX,
        "KEY_OWNERS": keys.KEY_OWNERS,
        "ACKNOWLEDGED_SOLVES": keys.ACKNOWLEDGED_SOLVES,
        "COOLDOWNS": keys.COOLDOWNS,
        "LAST_RUNS": keys.LAST_RUNS,
        "CHANGES": keys.CHANGES,
        "DUE": keys.DUE,
        "JOB": keys.JOB,
        "AS_OF": keys.AS_OF,
        "BOARDS": keys.BOARDS,
        "BOARD_CHANGES": keys.BOARD_CHANGES,
        "GENERATIONS": keys.GENERATIONS,
        "DOUBTS": keys.DOUBTS,
        "EVERY_DOJO": keys.EVERY_DOJO,
        "NAMES": keys.NAMES,
        "NAMES_LOG": keys.NAMES_LOG,
        "SCOREBOARD_KEYS": keys.SCOREBOARD,
        "CREWS_KEYS": keys.CREWS,
        "SCORES_KEYS": keys.SCORES,
        "CHALLENGE_SOLVES_KEYS": keys.CHALLENGE_SOLVES,
        "ACTIVITY_KEYS": keys.ACTIVITY,
        "KNOWN_SOLVES": keys.KNOWN_SOLVES,
        "BOARDS_KIND": "boards:",
        "AFTER_LOSS": AFTER_LOSS,
    }
    return constants(named | {each.name: int(each) for each in Priority})


def _definitions() -> str:
    return constants(
        {
            "WINDOWS": definitions.WINDOWS,
            "CHART_DAYS": definitions.CHART_DAYS,
            "CHART_SPAN": definitions.CHART_SPAN,
            "RECENT_DAYS": definitions.RECENT_DAYS,
            "NO_DATE": definitions.NO_DATE,
            "RECENT_SOLVES": definitions.RECENT_SOLVES,
            "SCORE_UNIT": definitions.SCORE_UNIT,
            "SENTINEL": definitions.SENTINEL,
        }
    )


def _follow_ups() -> str:
    # Imported on demand: a web application's readers load no script with follow-ups.
    follow_ups = import_module("statsd.boards.follow_ups")
    return constants({"FOLLOW_UPS": follow_ups.by_occasion()})


GENERATED: Mapping[str, Callable[[], str]] = {
    "keys": _keys,
    "definitions": _definitions,
    "boards/follow_ups": _follow_ups,
}


def every() -> Iterator[str]:
    """Yield the names of all scripts that are run, and not only included."""
    included: set[str] = {extension for each in EXTENSIONS.values() for extension in each}
    names = []
    for package in ("boards", "consistency", "jobs", "stream"):
        folder = resources.files("statsd") / package / "lua"
        names += [f"{package}/{file.name.removesuffix('.lua')}" for file in folder.iterdir()]
    for name in names:
        included |= set(_INCLUDE.findall(text(name)))
    yield from sorted(name for name in names if name not in included)
