"""Columns: the entries of dojos as NumPy arrays, read with a binary COPY.

A cold start reads millions of entries. Each row of the COPY has the same width, so that a chunk of
rows becomes an array without any work in Python for each row.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from statsd.definitions import NO_DATE
from statsd.servers.snapshot import Snapshot, Statement

Array = npt.NDArray[Any]

_KINDS = {
    "dojo": "i4",
    "user": "i4",
    "module": "i4",
    "index": "i4",
    "challenge": "i4",
    "solve": "i4",
    "date": "i8",
    "flags": "i2",
}
_WIRE = np.dtype(
    [("columns", ">i2")]
    + [
        field
        for name, kind in _KINDS.items()
        for field in ((f"{name}_size", ">i4"), (name, f">{kind}"))
    ]
)
RECORD_ENTRY = np.dtype(
    [
        ("module", "<i4"),
        ("index", "<i4"),
        ("challenge", "<i4"),
        ("solve", "<i4"),
        ("date", "<i8"),
        ("flags", "u1"),
    ]
)
"""An entry in a record, as `ENTRY` in statsd/calculators/user_entries.py."""
PLACE_ITEM = np.dtype([("module", "<i4"), ("place", "<u4")])
"""A place in a record, as `PLACE` in statsd/calculators/user_entries.py."""

_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_HEADER_SIZE = len(_SIGNATURE) + 8
_CHUNK = 16_000 * _WIRE.itemsize  # bytes that become arrays at a time
_POSTGRES_EPOCH = 946_684_800_000_000  # microseconds from 1970 to 2000


class Entries(NamedTuple):
    """Entries as columns, ordered by dojo, user, module and row."""

    dojo: Array
    user: Array
    module: Array
    index: Array  # type: ignore[assignment] # hides the method of tuples
    challenge: Array
    solve: Array
    date: Array
    """Microseconds since 1970 (UTC); NO_DATE for none."""
    flags: Array

    @property
    def size(self) -> int:
        """The number of entries."""
        return len(self.user)

    def at(self, rows: Any) -> "Entries":
        """Return some of the entries: a slice, indexes, or a mask."""
        return Entries(*[column[rows] for column in self])

    def of_dojo(self, dojo_id: int) -> "Entries":
        """Return the entries of one dojo."""
        first, end = np.searchsorted(self.dojo, [dojo_id, dojo_id + 1])
        return self.at(slice(first, end))

    def packed(self) -> bytes:
        """Return the entries as records have them."""
        packed = np.empty(self.size, RECORD_ENTRY)
        for name in RECORD_ENTRY.names or ():
            packed[name] = getattr(self, name)
        return packed.tobytes()


async def read(snapshot: Snapshot, statement: Statement, parameters: Mapping[str, Any]) -> Entries:
    """Return the entries that a statement selects."""
    chunks: list[Entries] = []
    rest = bytearray()
    begun = False

    def convert() -> None:
        count = len(rest) // _WIRE.itemsize
        chunks.append(_converted(np.frombuffer(rest, _WIRE, count)))
        del rest[: count * _WIRE.itemsize]

    async def take(data: bytes) -> None:
        nonlocal begun
        rest.extend(data)
        if not begun and len(rest) >= _HEADER_SIZE:
            del rest[:_HEADER_SIZE]
            begun = True
        if begun and len(rest) >= _CHUNK:
            convert()

    await snapshot.copy(statement, parameters, take)
    convert()
    if bytes(rest) != b"\xff\xff":
        raise ValueError("the entries of a dojo have columns of another width")
    return await asyncio.to_thread(_ordered, chunks)


def _converted(wire: Array) -> Entries:
    columns = {name: wire[name].astype(kind) for name, kind in _KINDS.items()}
    # PostgreSQL's infinities are the ends of the range; -infinity stands for a missing date.
    dates = np.clip(columns["date"], -(2**62), 2**62) + _POSTGRES_EPOCH
    columns["date"] = np.where(dates < -(2**61), NO_DATE, np.clip(dates, NO_DATE + 1, -NO_DATE))
    return Entries(**columns)


def _ordered(chunks: list[Entries]) -> Entries:
    """Return the entries in order. Columns are freed one by one: all together take much memory."""
    parts = [list(each) for each in zip(*chunks, strict=True)]
    chunks.clear()
    columns = [np.concatenate(parts.pop(0)) for _ in Entries._fields]
    found = Entries(*columns)
    order = np.argsort(_joined(found.module, found.index), kind="stable")
    order = order[np.argsort(_joined(found.dojo, found.user)[order], kind="stable")]
    del found
    return Entries(*[columns.pop(0)[order] for _ in Entries._fields])


def _joined(high: Array, low: Array) -> Array:
    """Return a key that orders by two columns of 32 bits, both signed."""
    key: Array = (high.astype("i8") << 32) + (low.astype("i8") + 2**31)
    return key


def starts_of_groups(*columns: Array) -> Array:
    """Return the index of the first row of each group of equal values; rows are in order."""
    if not len(columns[0]):
        return np.empty(0, "i8")
    differs = np.zeros(len(columns[0]), bool)
    differs[0] = True
    for column in columns:
        differs[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(differs)


def sorted_once(values: Array) -> Array:
    """Return values in order, each once.

    `np.unique` hashes them first, and takes several times as long.
    """
    in_order = np.sort(values)
    return in_order[starts_of_groups(in_order)]
