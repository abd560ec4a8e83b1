"""The records of users in the states of dojos: read by ranges of ids, and unpacked with NumPy."""

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from redis.asyncio import Redis

from statsd import keys, scripts
from statsd.boards.columns import (
    PLACE_ITEM,
    RECORD_ENTRY,
    Array,
    Entries,
    sorted_once,
    starts_of_groups,
)
from statsd.calculators.user_entries import ENTRY, HEADER, PLACE, packed_entries

FEW = 500  # users of a dojo that are read all at once
LAST_ID = 2**31 - 1


class StoredRecords(NamedTuple):
    """Records of some users of a dojo, from one moment."""

    generation: str
    token: int
    """The moment."""
    modules: list[int]
    last: int
    """The last id of the range that was read."""
    records: dict[int, bytes]
    """By user, in the order of ids."""


class _Reply(msgspec.Struct):
    """The first part of the reply of the script `boards/records`."""

    generation: str
    token: int
    modules: str
    last: int | None = None


class RecordReader:
    """Reads records."""

    def __init__(self, redis: Redis) -> None:
        self._script = redis.register_script(scripts.source("boards/records"))

    async def read(self, dojo_id: int, first: int, last: int) -> StoredRecords | None:
        """Return the records of the users from an id on; None where the dojo has no state.

        They are those of a part of the range, some 0.5 MB, or all of a dojo with few users.
        """
        request = {"dojo": str(dojo_id), "first": first, "last": last, "few": FEW}
        reply: list[bytes] | None = await self._script(args=[scripts.encode(request)])
        if reply is None:
            return None
        found = msgspec.msgpack.decode(reply[0], type=_Reply)
        users = np.frombuffer(reply[1], "<u4")
        ends = np.cumsum(np.frombuffer(reply[2], "<u4"), dtype="i8")
        starts = np.concatenate([np.zeros(1, "i8"), ends])[:-1]
        records = {
            user: reply[3][start:end]
            for user, start, end in zip(users.tolist(), starts.tolist(), ends.tolist(), strict=True)
        }
        modules = [int(module) for module in found.modules.split(",") if module]
        end_of_range = LAST_ID if found.last is None else found.last
        in_order = {user: records[user] for user in sorted(records) if user >= first}
        return StoredRecords(found.generation, found.token, modules, end_of_range, in_order)


class Unpacked(NamedTuple):
    """The parts of some records."""

    entries: Entries
    """Of all users, in the order of ids; `dojo` is 0."""
    names: dict[int, int]
    """By user, the digest of the name."""
    places: dict[str, tuple[Array, Array]]
    """By scope, users in the order of ids, and the place of each among the items."""
    garbled: list[int]
    """The users whose record cannot be read."""


def unpacked(records: Mapping[int, bytes]) -> Unpacked:
    """Return the parts of records, which are in the order of ids."""
    users: list[int] = []
    counts: list[int] = []
    packed: list[bytes] = []
    places: list[bytes] = []
    of_dojo: list[int] = []
    names: dict[int, int] = {}
    garbled: list[int] = []
    for user, record in records.items():
        if not is_readable(record):
            garbled.append(user)
            continue
        _, names[user], place, count = HEADER.unpack_from(record)
        users.append(user)
        counts.append(count)
        packed.append(packed_entries(record))
        of_dojo.append(place)
        places.append(record[HEADER.size + count * ENTRY.size :])
    items = np.frombuffer(b"".join(packed), RECORD_ENTRY)
    entries = Entries(
        np.zeros(len(items), "i4"),
        np.repeat(np.array(users, "i4"), counts),
        *[items[name] for name in RECORD_ENTRY.names or ()],
    )
    of_scopes = {keys.DOJO: (np.array(users, "i4"), np.array(of_dojo, "u4"))}
    return Unpacked(entries, names, of_scopes | _places(users, places), garbled)


def is_readable(record: bytes) -> bool:
    """Say whether a record has the form that the scripts write."""
    try:
        *_, count = HEADER.unpack_from(record)
    except struct.error:
        return False
    rest = len(record) - HEADER.size - count * ENTRY.size
    return bool(rest >= 0 and rest % PLACE.size == 0)


def _places(users: Sequence[int], places: Sequence[bytes]) -> dict[str, tuple[Array, Array]]:
    sizes = [len(each) // PLACE.size for each in places]
    items = np.frombuffer(b"".join(places), PLACE_ITEM)
    owners = np.repeat(np.array(users, "i4"), sizes)
    return {
        str(module): (owners[items["module"] == module], items["place"][items["module"] == module])
        for module in sorted_once(items["module"]).tolist()
    }


def packed_by_user(entries: Entries) -> dict[int, bytes]:
    """Return the entries of each user as records have them."""
    raw, size = entries.packed(), RECORD_ENTRY.itemsize
    starts = starts_of_groups(entries.user)
    firsts = (starts * size).tolist()
    ends = [*firsts[1:], len(raw)] if firsts else []
    users = entries.user[starts].tolist()
    return {user: raw[a:b] for user, a, b in zip(users, firsts, ends, strict=True)}


def differing_users(stored: Mapping[int, bytes], entries: Entries) -> list[int]:
    """Return the users whose record does not have these entries, which are those of a range."""
    wanted = packed_by_user(entries)
    return sorted(
        user for user in {*stored, *wanted} if not _has(stored.get(user), wanted.get(user, b""))
    )


def _has(record: bytes | None, entries: bytes) -> bool:
    if record is None:
        return not entries
    return is_readable(record) and packed_entries(record) == entries
