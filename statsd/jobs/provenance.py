"""Provenance: the events that a job is pending for, by the ids of their stream entries."""

from collections.abc import Iterable
from typing import NamedTuple

Id = tuple[int, int]
"""An entry's id: milliseconds of the server's clock, and a number. A newer id is larger."""


def id_of(text: str) -> Id:
    """Return the id in a text like `1795410506881-0`."""
    milliseconds, number = text.split("-")
    return int(milliseconds), int(number)


class Provenance(NamedTuple):
    """The events that jobs are enqueued for."""

    since: int
    """When the oldest event was published: milliseconds, from its id."""
    entry: str
    """The id of the newest event."""
    type: str
    """The type of the newest event."""


def provenance_of(entries: Iterable[str], event_type: str) -> Provenance:
    """Return the provenance of events of one type, by the ids of their entries."""
    ids = list(entries)
    return Provenance(min(map(id_of, ids))[0], max(ids, key=id_of), event_type)


def joined(one: Provenance, other: Provenance) -> Provenance:
    """Return the provenance of the events of both."""
    newer = max(one, other, key=lambda provenance: id_of(provenance.entry))
    return newer._replace(since=min(one.since, other.since))
