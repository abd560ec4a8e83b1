"""Crews from the state of a dojo, where arrays are left out (STATSD_EXPORTS=0).

The script `boards/crews` returns the array or, where arrays are left out, the tagged users on the
board and their records, at one moment. Of very many users the records are read beforehand; the last
call then returns those that have changed meanwhile.
"""

import struct
from collections.abc import Generator, Mapping
from functools import lru_cache
from itertools import compress
from operator import and_
from typing import Any

import msgspec

from statsd import keys, scripts
from statsd.calculators import user_entries
from statsd.calculators.crew_tags import member_of, ranked
from statsd.client.pages import Board, BoardEntry
from statsd.job import SECOND

RECORDS = 300  # records read at once
ATTEMPTS = 5  # until few users change meanwhile
DAY = 86_400 * SECOND
GARBLED = (msgspec.MsgspecError, struct.error, KeyError, TypeError, ValueError)

Reply = list[Any] | None
"""The reply of the script: a packed map, then strings; None where nothing is there."""


class CrewsReading:
    """One reading of the crews on a board: requests for the script, until there is no more.

    The caller runs each request, and gives the reply to `take`.
    """

    def __init__(self, board: Board) -> None:
        self._steps = _steps(board)
        self.request: bytes | None = next(self._steps)
        """The next request; None when the reading is over."""
        self.array: bytes | None = None
        """The cached array."""
        self.crews: list[dict[str, Any]] | None = None
        """The crews, where arrays are left out. Both are None where neither is there."""

    def take(self, reply: Reply) -> None:
        """Go on with a reply. Raises one of GARBLED where the state is garbled."""
        try:
            self.request = self._steps.send(reply)
        except StopIteration as finished:
            self.request = None
            if isinstance(finished.value, bytes):
                self.array = finished.value
            else:
                self.crews = finished.value


class _Found(msgspec.Struct):
    """The first part of a reply, as described on top of the script."""

    is_array: bool = False
    generation: str = ""
    since: int = 0
    wanted: list[str] = []
    members: list[BoardEntry] | None = None
    now: int = 0


def _steps(board: Board) -> Generator[bytes, Reply, bytes | list[dict[str, Any]] | None]:
    """Yield requests and receive replies; return the array, the crews, or None."""
    records: dict[str, bytes | None] = {}
    generation, since = "", 0
    for _ in range(ATTEMPTS):
        reply = yield _request(board, {"generation": generation, "since": since})
        if reply is None:
            return None
        found = msgspec.msgpack.decode(reply[0], type=_Found)
        if found.is_array:
            array: bytes = reply[1]
            return array
        generation, since = found.generation, found.since
        if found.members is not None:
            records.update(zip(found.wanted, reply[1:], strict=True))
            return _crews(board, found.members, records, found.now)
        for first in range(0, len(found.wanted), RECORDS):
            users = found.wanted[first : first + RECORDS]
            reply = yield _request(board, {"generation": generation, "users": users})
            records.update(zip(users, (reply or [])[1:], strict=True))
    return None


def _request(board: Board, fields: Mapping[str, Any]) -> bytes:
    dojo_id, module_index, days = board
    place = {"dojo": str(dojo_id), "scope": keys.scope(module_index), "days": days}
    return scripts.encode({**place, "key": keys.crews(*board), **fields})


def _crews(
    board: Board, members: list[BoardEntry], records: Mapping[str, bytes | None], now: int
) -> list[dict[str, Any]] | None:
    """Return the crews; None where a record is missing."""
    if any(records[each.user] is None for each in members):
        return None
    earliest = now - board.days * DAY if board.days else None
    return ranked(
        member_of(
            {**each.entry()}, _challenges(records[each.user] or b"", board.module_index, earliest)
        )
        for each in members
    )


@lru_cache(1000)
def _fields(entries: int) -> struct.Struct:
    """Return the form of that many entries; it skips what crews do not need."""
    return struct.Struct("<" + "i4xi4xqB" * entries)


def _challenges(record: bytes, module_index: int | None, earliest: int | None) -> list[int]:
    """Return the ids of the challenges that a user solved in a scope, from a date on, sorted.

    There may be a hundred thousand entries on a board, so no Python code runs for each of them.
    """
    packed = user_entries.packed_entries(record)
    fields = _fields(len(packed) // user_entries.ENTRY.size).unpack(packed)
    modules, challenges, dates, flags = (fields[at::4] for at in range(4))
    chosen = map(user_entries.COUNTED.__le__, flags)  # the highest flag
    if module_index is not None:
        chosen = map(and_, chosen, map(module_index.__eq__, modules))
    if earliest is not None:
        chosen = map(and_, chosen, map(earliest.__le__, dates))
    return sorted(set(compress(challenges, chosen)))
