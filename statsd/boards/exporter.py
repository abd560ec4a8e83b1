"""Exports: the contract's arrays, made from the state of a dojo, each when it has changed.

An export costs what it writes. The time for which an array then rests is a multiple of that cost:
a small board is fresh at once, and a large one within a second.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from redis.asyncio import Redis

from statsd import keys, scripts
from statsd.boards import arrays
from statsd.boards.arrays import NO_TAGGED, ArrayName, tagged_of
from statsd.boards.columns import Array
from statsd.boards.names import Names
from statsd.boards.shape import ITEM, ranking, scores_in_order
from statsd.calculators.dojo_arrays import Boards, Exports
from statsd.definitions import SENTINEL
from statsd.job import SECOND
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.parts import Parts

RECORDS = 200  # records read at once
COST = 1e-6  # seconds of processor time for each entry, about
REST_FACTOR = 10  # an array rests for this many times its cost
MOST_CHANGED = 200  # users who may change while the crews of a dojo are read
PAUSE = 0.5  # seconds until the next attempt where more have changed
LOST = [b""]  # the reply of the script `boards/read` where a key is missing
IN_THREAD = 2000  # entries from which on JSON is made in a thread

T = TypeVar("T")


class DirtyArray(NamedTuple):
    """An array that has changed since it was exported."""

    name: str
    """See `ArrayName`."""
    size: float
    """Entries."""
    as_of: str
    """As-of of the exported array: seconds; empty where it is missing."""

    def rests(self, now: float, factor: float) -> float:
        """Return the seconds for which it rests from now on; not above 0 if it is ready.

        It rests for `factor` times its cost.
        """
        try:
            since = now - float(self.as_of)
        except ValueError:
            return 0.0
        return factor * COST * self.size - since if since >= 0 else 0.0  # ahead of time: invalid


class _Dirty(msgspec.Struct):
    """The reply of the script `boards/dirty`."""

    generation: str
    token: int
    is_doubtful: bool
    arrays: list[DirtyArray]


class _Read(msgspec.Struct):
    """The first part of the reply of the script `boards/read`."""

    token: int
    changed: list[str]
    challenges: list[list[str]]


class _Wanted:
    """What has to be read for some arrays."""

    def __init__(self, found: _Dirty, ready: Sequence[ArrayName]) -> None:
        self._found = found
        self.boards = [(each.scope, each.days) for each in ready if each.kind == "b"]
        self.scores = [each.scope for each in ready if each.kind == "s"]
        self.modules = [each.scope for each in ready if each.kind == "c"]
        self.scopes = sorted({*self.scores, *(scope for scope, _ in self.boards)})
        """The scopes whose items are read."""

    def request(self, dojo_id: int) -> bytes:
        """Return the request of the script `boards/read`."""
        return scripts.encode(
            {
                "dojo": str(dojo_id),
                "generation": self._found.generation,
                "scopes": self.scopes,
                "has_boards": bool(self.boards),
                "challenges": self.modules,
                "since": self._found.token,
                "limit": MOST_CHANGED,
            }
        )


class Exporter:
    """Executes `Exports`."""

    def __init__(self, redis: Redis, names: Names, rest_factor: float = REST_FACTOR) -> None:
        self._redis = redis
        self._names = names
        self._rest_factor = rest_factor
        self._dirty = redis.register_script(scripts.source("boards/dirty"))
        self._read = redis.register_script(scripts.source("boards/read"))

    async def execute(self, wanted: Sequence[Exports], _attempt: Attempt) -> Parts:
        """Make the arrays of dojos that have changed and do not rest, dojo by dojo."""
        for job in wanted:
            yield {job: await self._export(job.dojo_id)}

    async def _export(self, dojo_id: int) -> Answer:
        owner, dojo = Boards(dojo_id).name, str(dojo_id)
        raw: bytes | None = await self._dirty(args=[scripts.encode({"dojo": dojo})])
        if raw is None:
            return _without_state(dojo_id)
        found = msgspec.msgpack.decode(raw, type=_Dirty)
        now = found.token / SECOND
        rests = {each: each.rests(now, self._rest_factor) for each in found.arrays}
        # Arrays of a state that is known to be wrong would be wrong: the whole pass makes them.
        ready = [each for each, rest in rests.items() if rest <= 0 and not found.is_doubtful]
        wait = min((rest for rest in rests.values() if rest > 0), default=None)
        values, token = await self._values(dojo_id, found, ready) if ready else ({}, found.token)
        if values is None:
            return _without_state(dojo_id)
        exported = [(each.name, token) for each in ready] if values else []
        if len(exported) < len(ready) or found.is_doubtful:
            wait = min(wait or PAUSE, PAUSE)
        return Answer(
            values,
            owner=owner,
            as_of=dict.fromkeys(values, token),
            boards={"exported": {"dojo": dojo, "generation": found.generation, "arrays": exported}},
            cooldown=wait,
        )

    async def _values(
        self, dojo_id: int, found: "_Dirty", ready: Sequence[DirtyArray]
    ) -> tuple[dict[str, bytes] | None, int]:
        """Return arrays by key, and the moment that they are true for.

        There are none where the generation was replaced, or where too many users changed. Return
        None where the state lost a key.
        """
        wanted = _Wanted(found, [ArrayName(each.name) for each in ready])
        prefix = keys.generation(dojo_id, int(found.generation))
        records = await self._tagged(prefix) if wanted.boards else {}
        reply: list[bytes] | None = await self._read(args=[wanted.request(dojo_id)])
        if reply is None:
            return {}, found.token
        if reply == LOST:
            return None, found.token
        read = msgspec.msgpack.decode(reply.pop(0), type=_Read)
        for user in read.changed:
            records.pop(int(user), None)
            if record := reply.pop():
                records[int(user)] = record
        items = {
            scope: np.frombuffer(raw, ITEM)[1:]  # the first one is the sentinel
            for scope, raw in zip(wanted.scopes, reply, strict=True)
        }
        values = await self._boards(dojo_id, wanted.boards, items, records, read.token)
        values |= await _scores(dojo_id, wanted.scores, items)
        values |= _challenge_solves(dojo_id, wanted.modules, read.challenges)
        return values, read.token

    async def _boards(
        self,
        dojo_id: int,
        boards: Sequence[tuple[str, int]],
        items: Mapping[str, Array],
        records: Mapping[int, bytes],
        now: int,
    ) -> dict[str, bytes]:
        """Return the scoreboards and crews of boards (scope and window), by key."""
        if not boards:
            return {}
        rankings = [ranking(scope, days, items[scope]) for scope, days in boards]
        tagged = tagged_of(records) if records else NO_TAGGED
        tails = await self._names.of([each.users.tolist() for each in rankings])
        values: dict[str, bytes] = {}
        for board in rankings:
            make = partial(arrays.of_board, dojo_id, board, tagged, tails, now)
            values |= await _in_thread_if(len(board.users) > IN_THREAD, make)
        return values

    async def _tagged(self, prefix: str) -> dict[int, bytes]:
        """Return the records of all users of a dojo whose name has a tag."""
        fields: Any = await self._redis.hkeys(f"{prefix}:tagged")
        users = [user for user in fields if user != SENTINEL.encode()]
        found: dict[int, bytes] = {}
        for first in range(0, len(users), RECORDS):
            some = users[first : first + RECORDS]
            records: Any = await self._redis.hmget(f"{prefix}:users", some)
            for user, record in zip(some, records, strict=True):
                if record:
                    found[int(user)] = record
        return found


def _without_state(dojo_id: int) -> Answer:
    """Return the answer for a dojo whose state is missing: it is built anew."""
    boards = {"ask": {"dojo": str(dojo_id)}}
    return Answer({}, owner=Boards(dojo_id).name, boards=boards)


async def _scores(
    dojo_id: int, scopes: Sequence[str], items: Mapping[str, Array]
) -> dict[str, bytes]:
    """Return the scores of scopes, by key."""
    values = {}
    for scope in scopes:
        key = keys.scores(dojo_id, keys.module_index_of(scope))
        make = partial(_scores_of, items[scope])
        values[key] = await _in_thread_if(len(items[scope]) > IN_THREAD, make)
    return values


def _scores_of(items: Array) -> bytes:
    return arrays.scores(scores_in_order(items))


def _challenge_solves(
    dojo_id: int, modules: Sequence[str], found: Sequence[Sequence[str]]
) -> dict[str, bytes]:
    """Return the challenge solves of modules, by key, from flat lists of challenges and counts."""
    values = {}
    for module, flat in zip(modules, found, strict=True):
        pairs = zip(flat[::2], flat[1::2], strict=True)
        counts = {int(each): int(solves) for each, solves in pairs if each != SENTINEL}
        values[keys.challenge_solves(dojo_id, int(module))] = arrays.challenge_solves(counts)
    return values


async def _in_thread_if(is_long: bool, work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work) if is_long else work()
