"""Which events something is owed for, as the stream knows them: by the ids of their entries."""

from collections.abc import Iterable
from typing import NamedTuple

Id = tuple[int, int]
"""An entry's id: milliseconds of the server's clock, and a number. What is newer is larger."""


def id_of(text: str) -> Id:
    """Return the id that a text like `1795410506881-0` says."""
    milliseconds, number = text.split("-")
    return int(milliseconds), int(number)


class Provenance(NamedTuple):
    """The events that marks are set for."""

    since: int
    """When the oldest was published: milliseconds, from its id."""
    entry: str
    """The id of the newest."""
    type: str
    """The type of that one."""


def provenance_of(entries: Iterable[str], event_type: str) -> Provenance:
    """Return the cause that events of a type are, by the ids of their entries."""
    ids = list(entries)
    return Provenance(min(map(id_of, ids))[0], max(ids, key=id_of), event_type)


def joined(one: Provenance, other: Provenance) -> Provenance:
    """Return the cause that two are together."""
    newer = max(one, other, key=lambda provenance: id_of(provenance.entry))
    return newer._replace(since=min(one.since, other.since))
