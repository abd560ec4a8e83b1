"""The events of the contract, section 1: one typed record for each type.

An event says that something happened and carries ids. Records are checked when they are
decoded: an event with an id that is not a 32-bit integer is invalid.
"""

from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal

import msgspec
import orjson

from statsd.errors import InvalidEventError

Id = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
"""A serial primary key."""

DojoId = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
"""`dojos.dojo_id`: random, signed, often negative."""

ModuleIndex = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """The base of all events. A subclass is named for what happened, and carries ids."""

    type: ClassVar[str]


class ChallengeSolve(Event, frozen=True):
    """A user solved a challenge, or a solve was deleted: its statistics are computed anew."""

    type: ClassVar[str] = "challenge_solve"
    user_id: Id
    challenge_id: Id
    solve_date: str | None = None


class DojoStatsUpdate(Event, frozen=True):
    """A dojo, module, challenge or visibility changed, or was deleted."""

    type: ClassVar[str] = "dojo_stats_update"
    dojo_id: DojoId


class ModuleId(msgspec.Struct, frozen=True):
    """The primary key of a module."""

    dojo_id: DojoId
    module_index: ModuleIndex


class ScoreboardUpdate(Event, frozen=True):
    """The scoreboard of a dojo or of a module may have changed."""

    type: ClassVar[str] = "scoreboard_update"
    model_type: Literal["dojo", "module"]
    model_id: DojoId | ModuleId

    def __post_init__(self) -> None:
        if isinstance(self.model_id, ModuleId) != (self.model_type == "module"):
            raise ValueError(f"model_id is not that of a {self.model_type}")


class ScoresUpdate(Event, frozen=True):
    """Ranks and counts of one dojo, or of all public and official dojos, may have changed."""

    type: ClassVar[str] = "scores_update"
    dojo_id: DojoId | None = None


class BeltsUpdate(Event, frozen=True):
    """A belt was granted, changed or revoked."""

    type: ClassVar[str] = "belts_update"


class EmojisUpdate(Event, frozen=True):
    """An emoji was granted, changed or revoked."""

    type: ClassVar[str] = "emojis_update"


class ActivityUpdate(Event, frozen=True):
    """The solve history of a user may have changed."""

    type: ClassVar[str] = "activity_update"
    user_id: Id


class UserUpdate(Event, frozen=True):
    """A user was renamed, hidden, shown or deleted, or the website was changed."""

    type: ClassVar[str] = "user_update"
    user_id: Id


class ContainerStatsUpdate(Event, frozen=True):
    """Challenge containers started or stopped."""

    type: ClassVar[str] = "container_stats_update"


EVENT_TYPES: dict[str, type[Event]] = {
    record.type: record
    for record in (
        ChallengeSolve,
        DojoStatsUpdate,
        ScoreboardUpdate,
        ScoresUpdate,
        BeltsUpdate,
        EmojisUpdate,
        ActivityUpdate,
        UserUpdate,
        ContainerStatsUpdate,
    )
}


class _Entry(msgspec.Struct):
    type: str
    payload: msgspec.Raw = msgspec.Raw(b"{}")


_entry = msgspec.json.Decoder(_Entry)
_payloads = {name: msgspec.json.Decoder(record) for name, record in EVENT_TYPES.items()}


def encode(event: Event) -> bytes:
    """Return the `data` field of a stream entry, with the present time as its timestamp."""
    timestamp = datetime.now(UTC).isoformat()
    payload = msgspec.to_builtins(event)
    return orjson.dumps({"type": event.type, "payload": payload, "timestamp": timestamp})


def decode(data: bytes | None) -> Event:
    """Return the event in the `data` field of a stream entry.

    Raises InvalidEventError, with the reason, for any data that is not an event of the contract.
    """
    if data is None:
        raise InvalidEventError("the entry has no field `data`")
    try:
        entry = _entry.decode(data)
        decoder = _payloads.get(entry.type)
        if decoder is None:
            raise InvalidEventError(f"unknown event type {entry.type[:80]!r}")
        payload = bytes(entry.payload)
        return decoder.decode(b"{}" if payload == b"null" else payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEventError(str(error)) from error
