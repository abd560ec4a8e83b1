"""The audit of one dojo: its state against the database, and everything else against its records.

It goes in steps. Each takes little memory, however large the dojo is: some records, or an array and
what it is made from. The stages:

1. `dojo`: the structure and the memberships, against the database.
2. `records`: the records of the users, and their names, against the database.
3. `boards`: the boards, and whatever else follows from the records, against the records.
4. `arrays`: the arrays in the cache, against the boards and records.

Only the first two read the database. Users whose records are written meanwhile are left out, and
so are totals if any record is.
"""

import asyncio
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson
from redis.asyncio import Redis

from statsd import keys, scripts
from statsd.boards import arrays, columns, structure
from statsd.boards.arrays import ArrayName, Tagged, tagged_of, tail_of
from statsd.boards.columns import Array
from statsd.boards.exports_switch import has_exports
from statsd.boards.names import PEOPLE
from statsd.boards.records import (
    RecordReader,
    StoredRecords,
    differing_users,
    is_readable,
    unpacked,
)
from statsd.boards.shape import DAY, ITEM, DojoShape, Ranking, ranking, scores_in_order
from statsd.calculators.dojo_arrays import Boards
from statsd.calculators.user_entries import (
    COUNTED,
    ENTRIES_IN_RANGE,
    HEADER,
    VISIBLE,
    Person,
    person_in,
)
from statsd.definitions import CHART_SPAN, SENTINEL, WINDOWS
from statsd.job import SECOND
from statsd.servers.database import Database

USERS = 2000  # compared in one step
RECORD_BYTES = 1_000_000  # of records compared in one step, about
LOOKED_UP = 4000  # scores looked up in one script call, which blocks Redis for some 3 ms
MOST_CHANGED = 2000  # users who may be written during a stage
TRIES = 3  # of the stage `boards`, until nothing is written meanwhile
NAMES = 2000  # read at once
MOST_READ = 400_000  # bytes of items of a scope whose arrays are read and compared all at once
MOST_TAGGED = 20_000  # users with crews; those of a dojo with more are not compared
DIGEST_SIZE = 8  # bytes
MOST_FINDINGS = 20  # kept of each dojo
NAMES_KEPT = 50_000  # in memory

DOJO, RECORDS, BOARDS, ARRAYS, DONE = "dojo", "records", "boards", "arrays", "done"
RECORD, ARRAY, NAME, NAME_IN_RECORD, TAG = "record", "array", "name", "name in the record", "tag"
OF_DATABASE = (RECORD, "structure", "memberships", "deleted dojo", "missing state")
"""Findings that pending checks of the dojo correct."""
OF_NAMES = (NAME, NAME_IN_RECORD, TAG)
"""Findings that the entries of a user correct, in whatever dojo."""


class Suspicion(msgspec.Struct, frozen=True):
    """Something that differs from what it should be."""

    what: str
    """`record`, `name`, `board` and so on."""
    where: str = ""
    """The user or the key."""
    found: str = ""
    """A digest of what was found; another one means that it was written since."""


class RecordTotals(msgspec.Struct):
    """What the records of all users add up to."""

    records: int = 0
    solves: int = 0
    days: dict[str, int] = {}
    challenges: dict[str, dict[str, int]] = {}
    """By module and challenge."""
    boards: dict[str, int] = {}
    """By the end of the key of a board, the number of its users."""
    items: dict[str, tuple[int, int]] = {}
    """By scope, the number of its items, and a checksum."""

    def add_items(self, scope: str, items: tuple[int, int]) -> None:
        """Add items of a scope."""
        number, checksum = self.items.get(scope, (0, 0))
        self.items[scope] = number + items[0], (checksum + items[1]) % 2**64


class Walk(msgspec.Struct):
    """How far the audit of a dojo has come."""

    dojo_id: int
    stage: str = DOJO
    first: int = 0
    """The next user, or the index of the next array."""
    newest_user: int = 0
    is_open: bool = False
    since: int = 0
    """The token at which the stage `boards` began."""
    generation: str = ""
    is_exact: bool = True
    """Whether nothing was written since then."""
    tries: int = 0
    totals: RecordTotals = msgspec.field(default_factory=RecordTotals)
    findings: list[Suspicion] = []

    def add(self, what: str, where: Any = "", found: Any = "") -> None:
        """Add a finding."""
        finding = Suspicion(what, str(where), str(found))
        if len(self.findings) < MOST_FINDINGS and finding not in self.findings:
            self.findings.append(finding)


class DojoAudit:
    """Compares dojos, step by step."""

    def __init__(self, redis: Redis, database: Database, *, refill: bool) -> None:
        """Without `refill` absent states stay absent (SKIP_COLD_START)."""
        self._redis = redis
        self._database = database
        self._refill = refill
        self._records = RecordReader(redis)
        self._look_up = redis.register_script(scripts.source("boards/look_up"))
        self._tails: dict[int, bytes] = {}
        self._tagged: tuple[str, Tagged] | None = None
        self._stages = {
            DOJO: self._dojo,
            RECORDS: self._records_of_users,
            BOARDS: self._boards,
            ARRAYS: self._arrays,
        }

    async def step(self, walk: Walk) -> None:
        """Go one step further; the stage is DONE after the last one."""
        await self._stages[walk.stage](walk)
        if walk.stage == DONE:
            self._forget()

    def _forget(self) -> None:
        self._tails, self._tagged = {}, None

    async def _prefix(self, walk: Walk) -> str | None:
        """Return the prefix of the keys of the state; None if there is none."""
        generation: Any = await self._redis.get(keys.boards(walk.dojo_id))
        prefix = keys.generation(walk.dojo_id, int(generation or 0))
        return prefix if generation and await self._redis.exists(prefix) else None

    # --- the dojo itself

    async def _dojo(self, walk: Walk) -> None:
        prefix = await self._prefix(walk)
        indexed: Any = await self._redis.hget(keys.KEY_INDEX, Boards(walk.dojo_id).name)
        stored: Any = await self._redis.hmget(prefix, "structure", "modules") if prefix else None
        members: Any = await self._redis.get(f"{prefix}:members") if prefix else None
        doubts: Any = await self._redis.hmget(keys.DOUBTS, str(walk.dojo_id), keys.EVERY_DOJO)
        if prefix and max(int(each or 0) for each in doubts) > int(prefix.rpartition("@")[2]):
            walk.stage = DONE  # a whole pass is pending
            return
        parameters = structure.parameters([walk.dojo_id])
        async with self._database.snapshot() as snapshot:
            own = next(iter(await snapshot.rows(structure.STRUCTURE, parameters)), None)
            found = next(iter(await snapshot.rows(structure.MEMBERS, parameters)), None)
            [newest_user] = await snapshot.scalars(structure.NEWEST_USER)
        if own is None or prefix is None:
            walk.stage = DONE
            # A state that is missing, where there was one, is left to the sweep.
            if own is None and (indexed or prefix):
                walk.add("deleted dojo", found=prefix or "")
            elif own is not None and indexed is None and self._refill:
                walk.add("missing state")
            return
        modules = ",".join(map(str, own.modules or ()))
        digest, packed = stored[0] or b"", structure.packed_members(found)
        if digest.decode() != own.digest or (stored[1] or b"").decode().strip(",") != modules:
            walk.add("structure", found=digest_of(*[each or b"" for each in stored]))
        if members != packed:
            walk.add("memberships", found=digest_of(members or b""))
        exports = await has_exports(self._redis)
        wanted = _array_keys(walk.dojo_id, own.modules or (), is_open=own.is_open, exports=exports)
        if {*orjson.loads(indexed or b"[]")} != wanted and (indexed is not None or self._refill):
            walk.add("keys of arrays", found=digest_of(indexed or b""))
        walk.newest_user, walk.is_open = newest_user or 0, own.is_open
        walk.stage = RECORDS

    # --- records, against the database

    async def _stored(self, walk: Walk) -> StoredRecords | None:
        """Read the next records, and go on to those that follow; None without a state."""
        stored = await self._records.read(walk.dojo_id, walk.first, walk.newest_user)
        while (
            stored
            and stored.last < walk.newest_user
            and len(stored.records) < USERS
            and sum(map(len, stored.records.values())) < RECORD_BYTES
        ):
            more = await self._records.read(walk.dojo_id, stored.last + 1, walk.newest_user)
            if more is None or more.generation != stored.generation:
                return None
            stored = stored._replace(last=more.last, records=stored.records | more.records)
        return stored

    async def _records_of_users(self, walk: Walk) -> None:
        stored = await self._stored(walk)
        if stored is None:
            walk.stage = DONE  # the sweep, or a pending job, sees to it
            return
        async with self._database.snapshot() as snapshot:
            users = {"dojo_id": walk.dojo_id, "first": walk.first, "last": stored.last}
            entries = await columns.read(snapshot, ENTRIES_IN_RANGE, users)
            shown = columns.sorted_once(entries.user[(entries.flags & VISIBLE) > 0])
            rows = await snapshot.rows(PEOPLE, {"user_ids": shown.tolist()})
        differing = await asyncio.to_thread(differing_users, stored.records, entries)
        for user in differing:
            walk.add(RECORD, user, digest_of(stored.records.get(user, b"")))
        people = {each.id: Person(each.name, each.email) for each in rows}
        counted = {*columns.sorted_once(entries.user[(entries.flags & COUNTED) > 0]).tolist()}
        right = {user: each for user, each in people.items() if user not in differing}
        await self._compare_names(walk, stored, right, counted)
        self._go_on(walk, stored.last, BOARDS)

    async def _compare_names(
        self,
        walk: Walk,
        stored: StoredRecords,
        people: Mapping[int, Person],
        counted: set[int],
    ) -> None:
        users = list(people)
        if not users:
            return
        prefix = keys.generation(walk.dojo_id, int(stored.generation))
        names: Any = await self._redis.hmget(keys.NAMES, users)
        tagged: Any = await self._redis.hmget(f"{prefix}:tagged", users)
        for user, name, tag in zip(users, names, tagged, strict=True):
            person, record = people[user], stored.records[user]
            if name is None or name.partition(b"|")[2] != person.text.encode():
                walk.add(NAME, user, digest_of(name or b""))
            elif HEADER.unpack_from(record)[1] != person.digest:
                walk.add(NAME_IN_RECORD, user, digest_of(record))
            elif (tag is not None) != (person.is_tagged and user in counted):
                walk.add(TAG, user, tag is not None)

    @staticmethod
    def _go_on(walk: Walk, last: int, following: str) -> None:
        """Go on to the next users, or to the next stage."""
        if last < walk.newest_user:
            walk.first = last + 1
        else:
            walk.first, walk.stage = 0, following

    # --- boards, and what else follows from records

    async def _boards(self, walk: Walk) -> None:
        """Compare the boards of some users; after the last ones, the totals."""
        if walk.first > walk.newest_user:
            await self._compare_totals(walk)
            return
        stored = await self._stored(walk)
        if stored is None or (walk.first and stored.generation != walk.generation):
            walk.stage = DONE
            return
        if not walk.first:
            walk.since, walk.generation = stored.token, stored.generation
            walk.totals, walk.is_exact = RecordTotals(), True
        derived = await asyncio.to_thread(Derived, stored)
        scores = await self._scores(walk, stored, derived)
        if scores is None:
            walk.stage = DONE
            return
        await asyncio.to_thread(self._compare_scores, walk, stored, derived, scores)
        walk.first = min(stored.last, walk.newest_user) + 1

    async def _scores(
        self, walk: Walk, stored: StoredRecords, derived: "Derived"
    ) -> "LookedUp | None":
        """Look up the scores of users in all sorted sets; None if the state was replaced."""
        found: dict[str, list[Array]] = {name: [] for name in derived.sets}
        changed: set[int] = set()
        for sets in _pages(derived.sets):
            request = {
                "dojo": str(walk.dojo_id),
                "generation": stored.generation,
                "since": stored.token,
                "limit": MOST_CHANGED,
                "sets": [name for name, _ in sets],
            }
            members = [each.astype("<u4").tobytes() for _, each in sets]
            reply: Any = await self._look_up(args=[scripts.encode(request), *members])
            if reply is None:
                return None
            written = msgspec.msgpack.decode(reply[0], type=_Written)
            if not written.is_known:
                return None
            changed |= {*map(int, written.changed)}
            for (name, _), raw in zip(sets, reply[1:], strict=True):
                found[name].append(np.array(raw.split(), "f8"))
        scores = {name: np.concatenate([*own, np.empty(0, "f8")]) for name, own in found.items()}
        return LookedUp(scores, changed)

    @staticmethod
    def _compare_scores(
        walk: Walk, stored: StoredRecords, derived: "Derived", looked_up: "LookedUp"
    ) -> None:
        # The next thing to change by time alone may be due; then it changes at any moment.
        moments = looked_up.scores["until"]
        due = derived.sets["until"][moments <= stored.token]
        left_out = looked_up.changed | {*due.tolist()}
        walk.is_exact &= not left_out
        for user in derived.garbled:
            walk.add(RECORD, user, digest_of(stored.records[user]))
        for name, users in derived.sets.items():
            found, wanted = looked_up.scores[name], derived.wanted(name)
            differs = ~((found == wanted) | (np.isnan(found) & np.isnan(wanted)))
            for user, score in zip(users[differs].tolist(), found[differs].tolist(), strict=True):
                if user not in left_out:
                    walk.add(f"score in {name}", user, score)
        derived.add_to(walk.totals)

    async def _compare_totals(self, walk: Walk) -> None:
        """Compare totals, if nothing was written since the stage began; else try again."""
        found: list[Suspicion] = []
        prefix = keys.generation(walk.dojo_id, int(walk.generation))
        # Users who are deleted, with an id above those of all others, were not read.
        walk.is_exact &= await self._redis.hlen(f"{prefix}:users") == walk.totals.records + 1
        if walk.is_exact:
            found = [each async for each in self._differing_totals(walk, prefix)]
        if await self._is_unchanged(walk) and walk.is_exact:
            for each in found:
                walk.add(each.what, each.where, each.found)
        elif walk.tries + 1 < TRIES:
            walk.tries, walk.first = walk.tries + 1, 0
            return
        walk.first, walk.stage = 0, ARRAYS

    async def _is_unchanged(self, walk: Walk) -> bool:
        request = {
            "dojo": str(walk.dojo_id),
            "generation": walk.generation,
            "since": walk.since,
            "limit": 0,
            "sets": [],
        }
        reply: Any = await self._look_up(args=[scripts.encode(request)])
        if reply is None:
            return False
        written = msgspec.msgpack.decode(reply[0], type=_Written)
        return written.is_known and not written.changed

    async def _differing_totals(self, walk: Walk, prefix: str) -> Any:
        totals = walk.totals
        solves: Any = await self._redis.hget(prefix, "solves")
        if _number(solves) != totals.solves:
            yield Suspicion("solves", found=str(solves))
        raw: Any = await self._redis.hgetall(f"{prefix}:days")
        first = walk.since // DAY - CHART_SPAN
        for name, number in _differing(_counts(raw), totals.days):
            # Days that no chart can show any more are left as they are.
            if _number(name[1:].encode()) is None or int(name[1:]) > first:
                yield Suspicion("day", name, str(number))
        async for each in self._differing_scopes(totals, prefix):
            yield each

    async def _differing_scopes(self, totals: RecordTotals, prefix: str) -> Any:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for module in totals.challenges:
                pipeline.hgetall(f"{prefix}:{module}:challenges")
            for name in totals.boards:
                pipeline.zcard(f"{prefix}:{name}")
            found = await pipeline.execute()
        for module, wanted in totals.challenges.items():
            for name, number in _differing(_counts(found.pop(0)), wanted):
                yield Suspicion("challenge", f"{module}:{name}", str(number))
        for (name, size), number in zip(totals.boards.items(), found, strict=True):
            if number != size + 1:
                yield Suspicion("size", name, str(number))
        for scope, items in totals.items.items():
            stored: Any = await self._redis.get(f"{prefix}:{scope}:items")
            if not await asyncio.to_thread(_has_items, stored or b"", items):
                yield Suspicion("items", scope, digest_of(stored or b""))

    # --- arrays

    async def _arrays(self, walk: Walk) -> None:
        """Compare the arrays of the next scope or, where it has many users, its next array."""
        prefix = await self._prefix(walk)
        modules: Any = await self._redis.hget(prefix, "modules") if prefix else None
        scopes = [keys.DOJO, *(each for each in (modules or b"").decode().split(",") if each)]
        exports = await has_exports(self._redis)
        every = [
            name
            for scope in scopes
            for name in _arrays_of(scope, is_open=walk.is_open, exports=exports)
        ]
        if prefix is None or walk.first >= len(every):
            walk.stage = DONE
            return
        scope = every[walk.first].scope
        names = [each for each in every[walk.first :] if each.scope == scope]
        if await self._redis.strlen(f"{prefix}:{scope}:items") > MOST_READ:
            del names[1:]
        await self._compare_arrays(walk, prefix, scope, names)
        walk.first += len(names)

    async def _compare_arrays(
        self, walk: Walk, prefix: str, scope: str, names: Sequence[ArrayName]
    ) -> None:
        """Compare arrays of a scope with what follows from the state at the same moment."""
        differing: dict[str, bytes] = {}
        for _ in range(2):  # what is kept of names, and of users with crews, may be older
            found = await self._read_arrays(walk, prefix, scope, names)
            wanted = await self._wanted(prefix, scope, found)
            differing = {
                key: each.as_of
                for key, each in found.cached.items()
                if key in wanted and not await asyncio.to_thread(_is_same, each.raw, wanted[key])
            }
            if not differing:
                return
            self._forget()
        for key, as_of in differing.items():
            walk.add(ARRAY, key, as_of)

    async def _read_arrays(
        self, walk: Walk, prefix: str, scope: str, names: Sequence[ArrayName]
    ) -> "FoundArrays":
        array_keys = [key for name in names for key in name.keys(walk.dojo_id)]
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.get(keys.boards(walk.dojo_id))
            pipeline.zmscore(f"{prefix}:dirty", [each.name for each in names])
            pipeline.get(f"{prefix}:{scope}:items")
            pipeline.hgetall(f"{prefix}:{scope}:challenges")
            pipeline.mget(array_keys)
            pipeline.mget(map(keys.updated, array_keys))
            generation, marks, items, challenges, values, as_ofs = await pipeline.execute()
        if keys.generation(walk.dojo_id, int(generation or 0)) != prefix:
            return FoundArrays(walk.dojo_id, [], np.empty(0, ITEM), {}, {})
        unmarked = [name for name, mark in zip(names, marks, strict=True) if mark is None]
        of_unmarked = {key for name in unmarked for key in name.keys(walk.dojo_id)}
        cached = {
            key: CachedArray(value, as_of)
            for key, value, as_of in zip(array_keys, values, as_ofs, strict=True)
            # What is missing is left to the sweep.
            if key in of_unmarked and value is not None and as_of is not None
        }
        known = np.frombuffer(items or b"", ITEM)[1:]
        return FoundArrays(walk.dojo_id, unmarked, known, _counts(challenges), cached)

    async def _wanted(self, prefix: str, scope: str, found: "FoundArrays") -> dict[str, bytes]:
        """Return the right arrays, by key; those of which something is missing are left out."""
        wanted: dict[str, bytes] = {}
        for name in found.unmarked:
            if name.kind == "b":
                board = await asyncio.to_thread(ranking, scope, name.days, found.items)
                wanted |= await self._wanted_boards(prefix, board, found)
                continue
            [key] = name.keys(found.dojo_id)
            if name.kind == "s":
                ordered = await asyncio.to_thread(scores_in_order, found.items)
                wanted[key] = await asyncio.to_thread(arrays.scores, ordered)
            else:
                counts = {int(challenge): count for challenge, count in found.challenges.items()}
                wanted[key] = arrays.challenge_solves(counts)
        return wanted

    async def _wanted_boards(
        self, prefix: str, board: Ranking, found: "FoundArrays"
    ) -> dict[str, bytes]:
        """Return a scoreboard and its crews; without the latter where they have no as-of."""
        if not await self._learn(board.users.tolist()):
            return {}  # a name is missing: that is another finding
        scoreboard, crews = ArrayName(f"b:{board.scope}:{board.days}").keys(found.dojo_id)
        wanted = {scoreboard: await asyncio.to_thread(arrays.scoreboard, board, self._tails)}
        tagged = await self._tagged_of(prefix)
        moment = as_of_ticks(found.cached[crews].as_of) if crews in found.cached else None
        if tagged and moment:
            wanted[crews] = await asyncio.to_thread(
                arrays.crews, board, tagged, self._tails, moment
            )
        return wanted

    async def _learn(self, users: Sequence[int]) -> bool:
        """Read the names of users as Redis has them; return whether it has all."""
        if len(self._tails) > NAMES_KEPT:
            self._tails = {}
        unknown = [user for user in users if user not in self._tails]
        for first in range(0, len(unknown), NAMES):
            some = unknown[first : first + NAMES]
            found: Any = await self._redis.hmget(keys.NAMES, some)
            if None in found:
                return False
            for user, text in zip(some, found, strict=True):
                self._tails[user] = tail_of(user, person_in(text.partition(b"|")[2]))
        return True

    async def _tagged_of(self, prefix: str) -> Tagged | None:
        """Return what the users with crews have solved; None if they are too many."""
        if self._tagged is None or self._tagged[0] != prefix:
            if await self._redis.hlen(f"{prefix}:tagged") > MOST_TAGGED:
                return None
            fields: Any = await self._redis.hkeys(f"{prefix}:tagged")
            users = [each for each in fields if each != SENTINEL.encode()]
            records: dict[int, bytes] = {}
            for first in range(0, len(users), USERS):
                some = users[first : first + USERS]
                found: Any = await self._redis.hmget(f"{prefix}:users", some)
                pairs = zip(some, found, strict=True)
                records |= {int(user): raw for user, raw in pairs if raw and is_readable(raw)}
            self._tagged = prefix, await asyncio.to_thread(tagged_of, records)
        return self._tagged[1]


class _Written(msgspec.Struct):
    """The first part of the reply of the script `boards/look_up`."""

    is_known: bool
    changed: list[str]


class LookedUp(NamedTuple):
    """What the script `boards/look_up` found."""

    scores: dict[str, Array]
    """By the end of a key, of the users in `Derived.sets`; NaN for none."""
    changed: set[int]
    """The users who were written meanwhile."""


class Derived:
    """What follows from the records of some users."""

    def __init__(self, stored: StoredRecords) -> None:
        parts = unpacked(stored.records)
        shape = DojoShape(parts.entries, stored.modules, stored.token)
        users = np.array([user for user in stored.records if user not in parts.garbled], "i4")
        self.garbled = parts.garbled
        self._shape = shape
        self._places = parts.places
        self._wanted: dict[str, tuple[Array, Array]] = {}
        """By the end of a key, the users who have a score, and the scores."""
        self.sets: dict[str, Array] = {"newest": users, "until": users}
        """By the end of a key of a sorted set, the users to look up."""
        of_module = {
            module: columns.sorted_once(parts.entries.user[parts.entries.module == module])
            for module in stored.modules
        }
        self._items = shape.items()
        for scope, items in self._items.items():
            for at, days in enumerate(WINDOWS):
                name, scores = f"{scope}:{days}", items["scores"][:, at]
                self._wanted[name] = items["user"][scores > 0], scores[scores > 0]
                self.sets[name] = users if scope == keys.DOJO else of_module[int(scope)]
        for name, flat in (("newest", shape.newest()), ("until", shape.leaving())):
            self._wanted[name] = np.array(flat[1::2], "i4"), np.array(flat[::2], "i8")

    def wanted(self, name: str) -> Array:
        """Return the scores that the users in `sets` should have; NaN for none."""
        users, scores = self._wanted[name]
        wanted = np.full(len(self.sets[name]), math.nan)
        order = np.argsort(users)
        wanted[np.searchsorted(self.sets[name], users[order])] = scores[order]
        return wanted

    def add_to(self, totals: RecordTotals) -> None:
        """Add what these users contribute to the totals."""
        totals.records += len(self.sets["until"])
        totals.solves += self._shape.solves
        for name, number in self._shape.days().items():
            totals.days[name] = totals.days.get(name, 0) + number
        for module, solves in self._shape.challenges().items():
            own = totals.challenges.setdefault(str(module), {})
            for challenge, number in solves.items():
                own[str(challenge)] = own.get(str(challenge), 0) + number
        for name, (users, _) in self._wanted.items():
            if ":" in name:
                totals.boards[name] = totals.boards.get(name, 0) + len(users)
        for scope, items in self._items.items():
            owners, places = self._places.get(scope, (np.empty(0, "i4"), np.empty(0, "u4")))
            of_item = np.zeros(len(items), "u4")
            is_placed = np.isin(items["user"], owners)
            at = np.searchsorted(owners, items["user"][is_placed])
            of_item[is_placed] = places[at]
            totals.add_items(scope, _checked(items, of_item))


class CachedArray(NamedTuple):
    """An array as it is cached."""

    raw: bytes
    as_of: bytes


class FoundArrays(NamedTuple):
    """The arrays of a scope, and what they are made from, at one moment."""

    dojo_id: int
    unmarked: list[ArrayName]
    """Those that have not changed since they were made."""
    items: Array
    challenges: dict[str, int]
    cached: dict[str, CachedArray]
    """By key."""


def _array_keys(dojo_id: int, modules: Sequence[int], *, is_open: bool, exports: bool) -> set[str]:
    """Return the keys of all arrays of a dojo."""
    return {
        key
        for scope in (keys.DOJO, *map(str, modules))
        for name in _arrays_of(scope, is_open=is_open, exports=exports)
        for key in name.keys(dojo_id)
    }


def _arrays_of(scope: str, *, is_open: bool, exports: bool) -> list[ArrayName]:
    """Return the arrays of a scope; without `exports` it has no scoreboards and no crews."""
    boards = [f"b:{scope}:{days}" for days in WINDOWS] if exports else []
    scores = [f"s:{scope}"] if is_open else []
    challenges = [] if scope == keys.DOJO else [f"c:{scope}"]
    return [ArrayName(name) for name in (*boards, *scores, *challenges)]


def digest_of(*found: bytes) -> str:
    """Return a digest of what was found."""
    return hashlib.blake2b(b"|".join(found), digest_size=DIGEST_SIZE).hexdigest()


def as_of_ticks(as_of: bytes | None) -> int | None:
    """Return an as-of in microseconds; None if it is missing or unreadable."""
    try:
        return round(float(as_of or "") * SECOND)
    except (ValueError, OverflowError):
        return None


def _pages(sets: Mapping[str, Array]) -> Iterator[list[tuple[str, Array]]]:
    """Yield parts of some sets, for one script call each."""
    page: list[tuple[str, Array]] = []
    size = 0
    for name, users in sets.items():
        for first in range(0, len(users), LOOKED_UP):
            some = users[first : first + LOOKED_UP]
            if page and size + len(some) > LOOKED_UP:
                yield page
                page, size = [], 0
            page.append((name, some))
            size += len(some)
    yield page


def _is_same(raw: bytes, wanted: bytes) -> bool:
    """Say whether two texts are the same JSON: another version may write it in another form."""
    try:
        return raw == wanted or bool(orjson.loads(raw) == orjson.loads(wanted))
    except orjson.JSONDecodeError:
        return False


def _number(raw: bytes | None) -> int | None:
    try:
        return int(raw or "")
    except ValueError:
        return None


def _counts(raw: Mapping[bytes, bytes]) -> dict[str, int]:
    """Return the counts in a hash of a state."""
    counts = {name.decode(): _number(number) for name, number in raw.items()}
    counts.pop(SENTINEL, None)
    return {name: -1 if number is None else number for name, number in counts.items()}


def _differing(found: Mapping[str, int], wanted: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Yield the names whose counts differ, and the counts that were found."""
    for name in {*found, *wanted}:
        if found.get(name, 0) != wanted.get(name, 0):
            yield name, found.get(name, 0)


def _checked(items: Array, places: Array) -> tuple[int, int]:
    """Return the number of items, and a sum of hashes of them and their places."""
    total = np.zeros(len(items), "u8")
    for each in (items["user"], *items["scores"].T, items["count"], items["latest"], places):
        total = (total ^ each.astype("i8").view("u8")) * np.uint64(0x9E3779B97F4A7C15)
        total ^= total >> np.uint64(29)
    return len(total), int(total.sum(dtype="u8"))


def _has_items(raw: bytes, wanted: tuple[int, int]) -> bool:
    """Say whether a scope as stored has these items, each at its place."""
    if len(raw) % ITEM.itemsize:
        return False
    items = np.frombuffer(raw, ITEM)
    places = np.flatnonzero((items["count"] > 0) | (items["scores"] != 0).any(axis=1))
    return _checked(items[places], places) == wanted
