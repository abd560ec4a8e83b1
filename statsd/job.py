"""Jobs: the identity of one thing to compute.

A job has a kind and a few integers, and so a name: `dojo_stats:-5`. Two jobs of one name are one
job. Each statistic declares its job class in its calculator's file.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any, ClassVar, Self

import msgspec

from statsd import keys
from statsd.errors import DuplicateError, StatsdError


class Priority(IntEnum):
    """The class of a pending job, the most urgent first."""

    MISSED = 0
    INTERACTIVE = 1
    ORDINARY = 2
    EXPORT = 3
    BACKGROUND = 4
    IDLE = 5


AFTER_LOSS = "reconcile"
"""The job that scripts enqueue when events or jobs may have been lost."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive UTC
TICK = timedelta(microseconds=1)
"""The unit of tokens."""
SECOND = 1_000_000  # ticks


def microseconds(moment: datetime) -> int:
    """Return a moment (naive UTC) in microseconds since 1970; a double holds them exactly."""
    return (moment - _EPOCH) // TICK


class UnknownKindError(StatsdError):
    """The kind of a job is unknown to this version; a newer version may have enqueued it."""


class Job(msgspec.Struct, frozen=True):
    """One thing to compute. A subclass declares its kind, and its integers as fields."""

    kind: ClassVar[str]
    priority: ClassVar[Priority] = Priority.INTERACTIVE

    @property
    def name(self) -> str:
        """The name of the job in the queue: the kind and the integers."""
        return ":".join((self.kind, *map(str, msgspec.structs.astuple(self))))

    @classmethod
    def of(cls, *numbers: int) -> Self:
        """Make a job of this kind from its integers, in the order of its fields."""
        return msgspec.convert(dict(zip(cls.__struct_fields__, numbers, strict=True)), cls)


_kinds: dict[str, type[Job]] = {}


def register_kind(job: type[Job]) -> None:
    """Make a kind known to `parse`. Raises DuplicateError where two classes have one kind."""
    if job.kind in _kinds:
        raise DuplicateError(f"two statistics are of kind {job.kind!r}; rename one")
    _kinds[job.kind] = job


def parse(name: str) -> Job:
    """Return the job of a name.

    Raises UnknownKindError, also where another version gave the kind other fields.
    """
    kind, *numbers = name.split(":")
    if kind not in _kinds:
        raise UnknownKindError(f"no statistic of kind {kind!r} is known to this version")
    try:
        return _kinds[kind].of(*map(int, numbers))
    except ValueError as error:
        raise UnknownKindError(
            f"{name!r} does not have the fields that this version knows"
        ) from error


def known(names: Iterable[str]) -> Iterator[Job]:
    """Yield the jobs of those names that this version knows."""
    for name in names:
        try:
            yield parse(name)
        except UnknownKindError:
            continue  # a job of a newer version; its daemon answers it


def enqueue_once_request(job: Job, priority: Priority, interval: float) -> dict[str, Any]:
    """Return the request of the script `jobs/enqueue_once`.

    The job is enqueued at most once in `interval` seconds.
    """
    return {
        "name": job.name,
        "class": int(priority),
        "requested": keys.requested(job.name),
        "milliseconds": int(interval * 1000),
    }
