"""Refreshes: the names of what can be stale, and the marks that say it is.

A refresh is one stale thing, named by its kind and a few integers: `dojo_stats:-5`. Equal
names are one. A statistic declares its own kind, in its calculator's file.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any, ClassVar, Self

import msgspec

from statsd import keys
from statsd.errors import DuplicateError, StatsdError


class Priority(IntEnum):
    """The class of a mark; what is more urgent comes first. The numbers are those in Lua."""

    MISSED = 0
    INTERACTIVE = 1
    ORDINARY = 2
    EXPORT = 3
    BACKGROUND = 4
    IDLE = 5


_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive UTC
TICK = timedelta(microseconds=1)
"""The unit of tokens."""


def microseconds(moment: datetime) -> int:
    """Return a moment (naive UTC) in the unit of tokens; a double holds them."""
    return (moment - _EPOCH) // TICK


class UnknownKindError(StatsdError):
    """A mark names a kind that this version does not know; a newer one may have made it."""


class Job(msgspec.Struct, frozen=True):
    """One stale thing. Subclasses name a kind and the integers that tell one from another."""

    kind: ClassVar[str]
    priority: ClassVar[Priority] = Priority.INTERACTIVE

    @property
    def name(self) -> str:
        """The name under which the refresh is owed."""
        return ":".join((self.kind, *map(str, msgspec.structs.astuple(self))))

    @classmethod
    def of(cls, *numbers: int) -> Self:
        """Make a refresh of this kind from its integers, in the order of its fields."""
        return msgspec.convert(dict(zip(cls.__struct_fields__, numbers, strict=True)), cls)


_kinds: dict[str, type[Job]] = {}


def register_kind(job: type[Job]) -> None:
    """Make the kind known to `parse`; twice the same kind is an error."""
    if job.kind in _kinds:
        raise DuplicateError(f"two statistics are of kind {job.kind!r}; rename one")
    _kinds[job.kind] = job


def parse(name: str) -> Job:
    """Return the refresh called `name`.

    Raises UnknownKindError, also where another version gave the kind other fields.
    """
    kind, *numbers = name.split(":")
    if kind not in _kinds:
        raise UnknownKindError(f"no statistic of kind {kind!r} is known to this version")
    try:
        return _kinds[kind].of(*map(int, numbers))
    except ValueError as error:
        raise UnknownKindError(f"{name!r} is of a kind that is made otherwise here") from error


def known(names: Iterable[str]) -> Iterator[Job]:
    """Yield the refreshes of those names that this version knows; a newer one may have others."""
    for name in names:
        try:
            yield parse(name)
        except UnknownKindError:
            continue  # that version's daemon sees to it


def enqueue_once_request(job: Job, priority: Priority, interval: float) -> dict[str, Any]:
    """Return what the script `ask` takes; `interval`, in seconds, is how often it may be owed."""
    return {
        "name": job.name,
        "class": int(priority),
        "asked": keys.asked(job.name),
        "milliseconds": int(interval * 1000),
    }
