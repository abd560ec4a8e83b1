"""The whole pass: build the states of dojos, and all their arrays, from the user entries.

It happens at a cold start, when a dojo itself has changed, and when a state is missing or in doubt.
The entries of all dojos of a batch are read with one statement. Then, dojo by dojo, a new
generation of the state is written beside the current one, what changed meanwhile is copied to it,
and one write swaps them.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from redis.asyncio import Redis

from statsd import keys, scripts
from statsd.boards import arrays, columns, structure
from statsd.boards.arrays import tagged_of
from statsd.boards.columns import Array, Entries
from statsd.boards.exports_switch import has_exports
from statsd.boards.names import PEOPLE, Names, People
from statsd.boards.shape import (
    ITEMS_SENTINEL,
    DojoShape,
    Ranking,
    Records,
    flat,
    ranking,
    scores_in_order,
)
from statsd.calculators.dojo_arrays import Boards
from statsd.calculators.user_entries import (
    ENTRIES_OF_DOJOS,
    VISIBLE,
    Person,
)
from statsd.definitions import SENTINEL, WINDOWS
from statsd.errors import StatsdError
from statsd.job import SECOND
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.parts import Parts
from statsd.servers.database import Database

NUMBERS = 4000  # numbers in one call of the script `boards/upload`, about
BYTES = 500_000  # bytes of records in one call of it, about
ENTRIES = 50_000  # read at once, about; some 100 bytes each
COPIED = 100  # users copied in one call of the script `boards/install`
OLDEST_BUILD = 3600.0  # seconds; a build is fenced by the log of what changed, not by its age
"""A giant dojo takes longer to build than other answers may."""


class BuildLostError(StatsdError):
    """A new state could not be installed; its job is tried again."""


class Found(NamedTuple):
    """What was read of the dojos of a batch, from one snapshot."""

    structures: Mapping[int, Any]
    members: Mapping[int, Any]
    entries: Entries
    people: People
    exports: bool
    """Whether scoreboards and crews are made."""


class Builder:
    """Executes `Boards`."""

    def __init__(self, redis: Redis, database: Database, names: Names) -> None:
        self._redis = redis
        self._database = database
        self._names = names
        self._upload = redis.register_script(scripts.source("boards/upload"))
        self._install = redis.register_script(scripts.source("boards/install"))
        self._remove = redis.register_script(scripts.source("boards/remove"))

    async def execute(self, wanted: Sequence[Boards], attempt: Attempt) -> Parts:
        """Build the states of dojos; yield the answer of each with all its arrays."""
        every = [job.dojo_id for job in wanted]
        current: Any = await self._redis.mget([keys.boards(dojo_id) for dojo_id in every])
        replaces = dict(zip(every, current, strict=True))
        await self._remove_left_over(every, attempt)
        people = People()
        for dojo_ids in await self._groups(every):
            found = await self._read(dojo_ids, people)
            await self._names.learn(people, attempt.token)
            for dojo_id in dojo_ids:
                yield {
                    Boards(dojo_id): await self._answer(dojo_id, found, attempt, replaces[dojo_id])
                }

    async def _remove_left_over(self, dojo_ids: Sequence[int], attempt: Attempt) -> None:
        """Remove what interrupted builds have left: of these dojos, and old ones of any dojo."""
        request = {
            "before": attempt.token - int(OLDEST_BUILD * SECOND),
            "dojos": dict.fromkeys(map(str, dojo_ids), True),
        }
        while await self._remove(args=[scripts.encode(request)]):
            pass

    async def _groups(self, dojo_ids: Sequence[int]) -> list[list[int]]:
        """Return the dojos in groups whose entries fit into memory together."""
        sizes = await self._database.alone(structure.SIZES, structure.parameters(dojo_ids))
        size_of = {each.dojo_id: each.solves for each in sizes}
        groups: list[list[int]] = [[]]
        size = 0
        for dojo_id in dojo_ids:
            own = size_of.get(dojo_id, 0)
            if groups[-1] and size + own > ENTRIES:
                groups.append([])
                size = 0
            groups[-1].append(dojo_id)
            size += own
        return groups

    async def _answer(
        self, dojo_id: int, found: Found, attempt: Attempt, replaces: bytes | None
    ) -> Answer:
        if dojo_id not in found.structures:
            return Answer({}, boards={"no_dojo": {"dojo": str(dojo_id)}})
        dojo = await asyncio.to_thread(Built, dojo_id, found, attempt)
        await self._write(dojo, replaces)
        return Answer(await asyncio.to_thread(dojo.values), oldest=OLDEST_BUILD)

    async def _read(self, dojo_ids: Sequence[int], people: People) -> Found:
        """Read the dojos of a group; `people` has those of the groups before."""
        exports = await has_exports(self._redis)
        parameters = structure.parameters(dojo_ids)
        async with self._database.snapshot(considerate=True) as snapshot:
            structures = await snapshot.rows(structure.STRUCTURE, parameters)
            members = await snapshot.rows(structure.MEMBERS, parameters)
            entries = await columns.read(snapshot, ENTRIES_OF_DOJOS, parameters)
            shown = columns.sorted_once(entries.user[(entries.flags & VISIBLE) > 0])
            rows = await snapshot.rows(PEOPLE, {"user_ids": shown.tolist()})
        people.add((user, Person(name, email)) for user, name, email in rows)
        return Found(
            {each.dojo_id: each for each in structures},
            {each.dojo_id: each for each in members},
            entries,
            people,
            exports,
        )

    async def _write(self, dojo: "Built", replaces: bytes | None) -> None:
        """Write a new generation, and make it the current one; `replaces` was it before."""
        generation = dojo.attempt.token
        await self._redis.hset(keys.GENERATIONS, f"{dojo.dojo_id}@{generation}", dojo.modules)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key, value in dojo.strings():
                pipeline.set(key, value)
            await pipeline.execute()
        uploads = dojo.uploads()
        while upload := await asyncio.to_thread(next, uploads, None):
            await self._upload(args=upload)
        await self._swap(dojo, replaces)

    async def _swap(self, dojo: "Built", replaces: bytes | None) -> None:
        request = {
            "dojo": str(dojo.dojo_id),
            "generation": str(dojo.attempt.token),
            "epoch": dojo.attempt.epoch,
            "since": dojo.attempt.token,
            "limit": COPIED,
            "replaces": replaces and replaces.decode(),
        }
        reply = _Installed("more", dojo.attempt.token)
        while reply.status == "more":
            request["since"] = reply.since
            raw: bytes = await self._install(args=[scripts.encode(request)])
            reply = msgspec.msgpack.decode(raw, type=_Installed)
        is_installed = reply.status == "installed"
        unwanted = reply.replaced if is_installed else str(dojo.attempt.token)
        if unwanted:
            removal = {"dojo": str(dojo.dojo_id), "generation": unwanted}
            await self._remove(args=[scripts.encode(removal)])
        if not is_installed and reply.status != "older":
            raise BuildLostError(f"the new state of a dojo was {reply.status}")


class _Installed(msgspec.Struct):
    """The reply of the script `boards/install`, as described on top of it."""

    status: str
    since: int
    replaced: str | None = None


NO_RECORDS = Records([], [])


class Built:
    """One dojo of a batch: the keys of its new generation, and its arrays."""

    def __init__(self, dojo_id: int, found: Found, attempt: Attempt) -> None:
        own = found.structures[dojo_id]
        shape = DojoShape(found.entries.of_dojo(dojo_id), list(own.modules or ()), attempt.token)
        self.dojo_id = dojo_id
        self.attempt = attempt
        self.modules = f",{','.join(map(str, own.modules or ()))},"
        self._prefix = keys.generation(dojo_id, attempt.token)
        self._shape = shape
        self._own = own
        self._exports = found.exports
        self._tails = found.people.tails
        self._members = found.members.get(dojo_id)
        self._items = shape.items()
        self._rankings = [
            ranking(scope, days, items) for scope, items in self._items.items() for days in WINDOWS
        ]
        self._challenges = shape.challenges()
        self._records = shape.records(attempt.token, found.people.digests, self._items)
        is_tagged = np.flatnonzero(np.isin(shape.users, [*found.people.tagged])).tolist()
        self._tagged = tagged_of(
            {self._records.users[at]: self._records.packed[at] for at in is_tagged}
        )

    def strings(self) -> Iterator[tuple[str, bytes]]:
        """Yield the keys that are strings."""
        yield f"{self._prefix}:members", structure.packed_members(self._members)
        for scope, items in self._items.items():
            yield f"{self._prefix}:{scope}:items", ITEMS_SENTINEL + items.tobytes()

    def uploads(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the arguments of calls of the script `boards/upload`."""
        records, self._records = self._records, NO_RECORDS  # their memory is free before the arrays
        yield from self._record_uploads(records)
        del records
        upload = _Upload()
        for command, key, pairs in self._collections():
            for some in _pages(pairs):
                upload.add(command, key, some)
                if upload.size >= NUMBERS:
                    yield upload.packed(), b""
                    upload = _Upload()
        yield upload.packed(), b""

    def _record_uploads(self, records: Records) -> Iterator[tuple[bytes, bytes]]:
        first, size = 0, 0
        for at, record in enumerate(records.packed, 1):
            size += len(record)
            if size >= BYTES or at - first >= NUMBERS // 2 or at == len(records.packed):
                users = records.users[first:at]
                packed = records.packed[first:at]
                part = (f"{self._prefix}:users", users, [*map(len, packed)])
                yield scripts.encode({"zsets": [], "hashes": [], "records": part}), b"".join(packed)
                first, size = at, 0

    def _collections(self) -> Iterator[tuple[str, str, list[Any]]]:
        """Yield kind (zsets or hashes), key and flat pairs of each other key, with its sentinel."""
        prefix = self._prefix
        yield "hashes", f"{prefix}:users", [SENTINEL, ""]
        yield (
            "hashes",
            f"{prefix}:tagged",
            [SENTINEL, "", *_with_empty(self._tagged.users)],
        )
        yield "hashes", f"{prefix}:days", [SENTINEL, "", *_flat(self._shape.days())]
        yield "zsets", f"{prefix}:newest", [-1, SENTINEL, *self._shape.newest()]
        yield "zsets", f"{prefix}:until", ["+inf", SENTINEL, *self._shape.leaving()]
        yield "zsets", f"{prefix}:log", [0, SENTINEL]
        yield "zsets", f"{prefix}:dirty", [0, SENTINEL]
        for module, solves in self._challenges.items():
            yield "hashes", f"{prefix}:{module}:challenges", [SENTINEL, "", *_flat(solves)]
        for each in self._rankings:
            pairs = flat(each.scores, each.users)
            yield "zsets", f"{prefix}:{each.scope}:{each.days}", [-1, SENTINEL, *pairs]
        fields: dict[str, Any] = {
            "epoch": self.attempt.epoch,
            "modules": self.modules,
            "is_open": int(self._own.is_open),
            "structure": self._own.digest,
            "log_from": str(self.attempt.token),
            "solves": self._shape.solves,
        }
        yield "hashes", prefix, _flat(fields)

    def values(self) -> dict[str, bytes]:
        """Return all arrays of the dojo, by key, but for those that are left out."""
        found: dict[str, bytes] = {}
        for board in self._rankings if self._exports else ():
            found |= self._boards(board)
        for module, solves in self._challenges.items():
            key = keys.challenge_solves(self.dojo_id, module)
            found[key] = arrays.challenge_solves(solves)
        if self._own.is_open:
            for scope, items in self._items.items():
                key = keys.scores(self.dojo_id, keys.module_index_of(scope))
                found[key] = arrays.scores(scores_in_order(items))
        return found

    def _boards(self, board: Ranking) -> dict[str, bytes]:
        now = self.attempt.token
        return arrays.of_board(self.dojo_id, board, self._tagged, self._tails, now)


class _Upload:
    """A part of a generation, for one call of the script `boards/upload`."""

    def __init__(self) -> None:
        self.size = 0
        self._pairs: dict[str, list[tuple[str, list[Any]]]] = {"zsets": [], "hashes": []}

    def add(self, command: str, key: str, pairs: list[Any]) -> None:
        self._pairs[command].append((key, pairs))
        self.size += len(pairs)

    def packed(self) -> bytes:
        return scripts.encode(self._pairs)


def _pages(pairs: list[Any]) -> Iterator[list[Any]]:
    for first in range(0, len(pairs), NUMBERS):
        yield pairs[first : first + NUMBERS]


def _flat(fields: Mapping[Any, Any]) -> list[Any]:
    return [part for pair in fields.items() for part in pair]


def _with_empty(members: Array) -> list[Any]:
    return [part for member in members.tolist() for part in (member, "")]
