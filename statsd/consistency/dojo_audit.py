"""The audit of one dojo: its state against the database, and everything else against its records.

It goes in steps, each of which takes little memory, however large the dojo is. The stages:

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
from dataclasses import dataclass
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
from statsd.boards.shape import DAY, SCORED_ITEM, DojoShape, Ranking, unpacked_ranking
from statsd.calculators.dojo_arrays import Boards
from statsd.calculators.user_entries import (
    COUNTED,
    ENTRIES_IN_RANGE,
    HEADER,
    VISIBLE,
    Person,
    person_in,
)
from statsd.definitions import CHART_SPAN, NO_DATE, SENTINEL, WINDOWS
from statsd.job import SECOND
from statsd.servers.database import Database

USERS = 2000  # compared in one step
RECORD_BYTES = 1_000_000  # of records compared in one step, about
LOOKED_UP = 4000  # scores looked up in one script call, which blocks Redis for some 3 ms
MOST_CHANGED = 2000  # users who may be written during a stage
TRIES = 3  # of the stage `boards`, until nothing is written meanwhile
ENTRIES = 2000  # of an array, compared at once
DECODED = 20_000  # entries of arrays that are compared as JSON where their texts differ
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
    items: dict[str, tuple[int, int]] = {}
    """By the end of a key of a board or of scores: the number of its items, and a checksum."""

    def add(self, name: str, items: tuple[int, int]) -> None:
        """Add items of a board or of scores."""
        number, checksum = self.items.get(name, (0, 0))
        self.items[name] = number + items[0], (checksum + items[1]) % 2**64


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
        self._people: dict[int, Person] = {}
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
            self._people, self._tagged = {}, None

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
            shown = np.unique(entries.user[(entries.flags & VISIBLE) > 0])
            rows = await snapshot.rows(PEOPLE, {"user_ids": shown.tolist()})
        differing = await asyncio.to_thread(differing_users, stored.records, entries)
        for user in differing:
            walk.add(RECORD, user, digest_of(stored.records.get(user, b"")))
        people = {each.id: Person(each.name, each.email) for each in rows}
        counted = {*np.unique(entries.user[(entries.flags & COUNTED) > 0]).tolist()}
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
        for module, wanted in totals.challenges.items():
            raw = await self._redis.hgetall(f"{prefix}:{module}:challenges")
            for name, number in _differing(_counts(raw), wanted):
                yield Suspicion("challenge", f"{module}:{name}", str(number))
        for name, items in totals.items.items():
            if name.endswith("scored"):
                stored: Any = await self._redis.get(f"{prefix}:{name}")
                is_right = await asyncio.to_thread(_has_scored, stored or b"", items)
            else:
                stored = await self._redis.get(f"{prefix}:{name}:ranks")
                size = await self._redis.zcard(f"{prefix}:{name}")
                is_right = size == items[0] + 1 and await asyncio.to_thread(
                    _has_ranks, stored or b"", items
                )
            if not is_right:
                yield Suspicion("items", name, digest_of(stored or b""))

    # --- arrays

    async def _arrays(self, walk: Walk) -> None:
        """Compare the next array, or a scoreboard with its crews."""
        prefix = await self._prefix(walk)
        modules: Any = await self._redis.hget(prefix, "modules") if prefix else None
        exports = await has_exports(self._redis)
        indexes = [int(each) for each in (modules or b"").decode().split(",") if each]
        every = _arrays(walk.dojo_id, indexes, is_open=walk.is_open, exports=exports)
        if prefix is None or walk.first >= len(every):
            walk.stage = DONE
            return
        own = every[walk.first]
        before = await self._last_write(walk, prefix, own)
        if before.is_settled:
            differing = await self._differing_keys(prefix, own, before)
            if differing and await self._last_write(walk, prefix, own) == before:
                for key in differing:
                    walk.add(ARRAY, key, before.as_ofs[key])
        walk.first += 1

    async def _last_write(self, walk: Walk, prefix: str, array: "DojoArray") -> "LastWrite":
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.get(keys.boards(walk.dojo_id))
            pipeline.zscore(f"{prefix}:dirty", array.name.name)
            pipeline.mget([keys.updated(key) for key in array.keys])
            generation, dirty, as_ofs = await pipeline.execute()
        is_current = keys.generation(walk.dojo_id, int(generation or 0)) == prefix
        return LastWrite(is_current and dirty is None, dict(zip(array.keys, as_ofs, strict=True)))

    async def _differing_keys(
        self, prefix: str, array: "DojoArray", last_write: "LastWrite"
    ) -> list[str]:
        """Return the keys whose cached value is not what follows from the state."""
        # Without an as-of, a value is missing: that is left to the sweep.
        present = [key for key in array.keys if last_write.as_ofs[key] is not None]
        if array.name.kind == "s":
            wanted = await self._scores_of(prefix, array)
        elif array.name.kind == "c":
            raw: Any = await self._redis.hgetall(f"{prefix}:{array.name.scope}:challenges")
            found = {int(name): number for name, number in _counts(raw).items()}
            wanted = arrays.challenge_solves(found)
        else:
            return await self._differing_boards(prefix, array, present, last_write)
        return [key for key in present if not await self._has(key, wanted)]

    async def _has(self, key: str, wanted: bytes) -> bool:
        """Say whether a value is this one, or missing."""
        raw: Any = await self._redis.get(key)
        return raw in {None, wanted} or await asyncio.to_thread(_is_same, raw, wanted)

    async def _scores_of(self, prefix: str, array: "DojoArray") -> bytes:
        scopes = array.modules if array.name.scope == keys.DOJO else [array.name.scope]
        totals = ScoresOfUsers()
        for module in scopes:
            raw: Any = await self._redis.get(f"{prefix}:{module}:scored")
            await asyncio.to_thread(totals.add, np.frombuffer(raw or b"", SCORED_ITEM))
        return await asyncio.to_thread(totals.packed)

    async def _differing_boards(
        self, prefix: str, array: "DojoArray", present: Sequence[str], last_write: "LastWrite"
    ) -> list[str]:
        raw: Any = await self._redis.get(f"{prefix}:{array.name.scope}:{array.name.days}:ranks")
        if not raw:
            return []
        ranking = unpacked_ranking(array.name.scope, array.name.days, raw)
        scoreboard, crews = array.keys
        differing = []
        if scoreboard in present and not await self._has_entries(scoreboard, ranking):
            differing.append(scoreboard)
        moment = as_of_ticks(last_write.as_ofs[crews])
        if (
            crews in present
            and moment
            and not await self._has_crews(prefix, crews, ranking, moment)
        ):
            differing.append(crews)
        return differing

    async def _has_entries(self, key: str, ranking: Ranking) -> bool:
        """Say whether a scoreboard is the one of a board; it is compared in pages."""
        users, solves = ranking.users.tolist(), ranking.solves.tolist()
        offset = 0
        for first in range(0, max(len(users), 1), ENTRIES):
            page = users[first : first + ENTRIES]
            people = await self._people_of(page)
            if people is None:
                return True  # a name is missing: that is another finding
            entries = _entries(first, page, solves[first : first + ENTRIES], people)
            text = (b"," if first else b"[") + orjson.dumps(entries)[1:-1]
            text += b"]" if first + ENTRIES >= len(users) else b""
            found: Any = await self._redis.getrange(key, offset, offset + len(text) - 1)
            if found != text:
                return await self._has_same_entries(key, users, solves)
            offset += len(text)
        return bool(await self._redis.strlen(key) in {0, offset})

    async def _has_same_entries(
        self, key: str, users: Sequence[int], solves: Sequence[int]
    ) -> bool:
        """Say whether a scoreboard has these entries, in whatever form, or is missing."""
        if len(users) > DECODED:
            return await self._redis.exists(key) == 0
        people = await self._people_of(users)
        if people is None:
            return True
        return await self._has(key, orjson.dumps(_entries(0, users, solves, people)))

    async def _people_of(self, users: Sequence[int]) -> Mapping[int, Person] | None:
        """Return the names of users as Redis has them; None if one is missing."""
        if len(self._people) > NAMES_KEPT:
            self._people = {}
        unknown = [user for user in users if user not in self._people]
        for first in range(0, len(unknown), ENTRIES):
            some = unknown[first : first + ENTRIES]
            found: Any = await self._redis.hmget(keys.NAMES, some)
            if None in found:
                return None
            for user, text in zip(some, found, strict=True):
                self._people[user] = person_in(text.partition(b"|")[2])
        return self._people

    async def _has_crews(self, prefix: str, key: str, ranking: Ranking, now: int) -> bool:
        """Say whether crews are those of a board, at a moment in microseconds."""
        for is_first in (True, False):  # the kept records may be older than the board
            if not is_first:
                self._tagged = None
            tagged = await self._tagged_of(prefix)
            if tagged is None:
                return True
            users = ranking.users[np.isin(ranking.users, tagged.users)].tolist()
            people = await self._people_of(users)
            if people is None:
                return True
            tails = {user: tail_of(user, people[user]) for user in users}
            wanted = await asyncio.to_thread(arrays.crews, ranking, tagged, tails, now)
            if await self._has(key, wanted):
                return True
        return False

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
            module: np.unique(parts.entries.user[parts.entries.module == module])
            for module in stored.modules
        }
        for each in shape.rankings():
            name = f"{each.scope}:{each.days}"
            self._wanted[name] = each.users, each.scores
            self.sets[name] = users if each.scope == keys.DOJO else of_module[int(each.scope)]
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
        for name, (users, scores) in self._wanted.items():
            if ":" in name:
                totals.add(name, _checked(users, scores))
        for module, items in self._shape.scored().items():
            owners, places = self._places.get(module, (np.empty(0, "i4"), np.empty(0, "u4")))
            of_item = np.zeros(len(items), "u4")
            is_placed = np.isin(items["user"], owners)
            at = np.searchsorted(owners, items["user"][is_placed])
            of_item[is_placed] = places[at]
            totals.add(f"{module}:scored", _checked_scores(items, of_item))


@dataclass(frozen=True)
class DojoArray:
    """An array of one dojo."""

    name: ArrayName
    dojo_id: int
    modules: Sequence[str]
    """The scopes of all modules."""

    @property
    def keys(self) -> list[str]:
        """The keys of the values."""
        return self.name.keys(self.dojo_id)


class LastWrite(NamedTuple):
    """What tells whether an array, or what it is made from, is written."""

    is_settled: bool
    """Whether the state is the current one, and the array has not changed since it was made."""
    as_ofs: dict[str, bytes | None]


class ScoresOfUsers:
    """The scores of a module, or of a dojo from those of its modules, one after another."""

    def __init__(self) -> None:
        self._users = np.empty(0, "u4")
        self._counts = np.empty(0, "i8")
        self._latest = np.empty(0, "i8")

    def add(self, items: Array) -> None:
        """Add the scores of a module, as a state keeps them."""
        items = items[items["count"] > 0]
        users = np.union1d(self._users, items["user"])
        counts, latest = np.zeros(len(users), "i8"), np.full(len(users), NO_DATE)
        before = np.searchsorted(users, self._users)
        counts[before], latest[before] = self._counts, self._latest
        at = np.searchsorted(users, items["user"])
        counts[at] += items["count"]
        latest[at] = np.maximum(latest[at], items["latest"])
        self._users, self._counts, self._latest = users, counts, latest

    def packed(self) -> bytes:
        """Return the object of scores."""
        latest = np.where(self._latest == NO_DATE, np.iinfo("i8").max, self._latest)
        order = np.lexsort((self._users, latest, -self._counts))
        users, counts = self._users[order].tolist(), self._counts[order].tolist()
        solves = dict(zip(map(str, users), counts, strict=True))
        return orjson.dumps({"ranks": users, "solves": solves})


def _array_keys(dojo_id: int, modules: Sequence[int], *, is_open: bool, exports: bool) -> set[str]:
    """Return the keys of all arrays of a dojo."""
    every = _arrays(dojo_id, modules, is_open=is_open, exports=exports)
    return {key for array in every for key in array.keys}


def _arrays(
    dojo_id: int, modules: Sequence[int], *, is_open: bool, exports: bool
) -> list["DojoArray"]:
    """Return all arrays of a dojo; without `exports` it has no scoreboards and no crews."""
    scopes = [keys.DOJO, *map(str, modules)]
    boards = [f"b:{scope}:{days}" for scope in scopes for days in WINDOWS] if exports else []
    scores = [f"s:{scope}" for scope in scopes] if is_open else []
    names = [*boards, *scores, *(f"c:{module}" for module in modules)]
    return [DojoArray(ArrayName(name), dojo_id, scopes[1:]) for name in names]


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


def _entries(
    first: int, users: Sequence[int], solves: Sequence[int], people: Mapping[int, Person]
) -> list[dict[str, Any]]:
    """Return the entries of a part of a scoreboard; `first` is the rank before it."""
    return [
        {
            "rank": rank,
            "solves": number,
            "user_id": user,
            "name": people[user].name,
            "email": people[user].email,
        }
        for rank, (user, number) in enumerate(zip(users, solves, strict=True), first + 1)
    ]


def _is_same(raw: bytes, wanted: bytes) -> bool:
    """Say whether two texts are the same JSON: another version may write it in another form."""
    try:
        return bool(orjson.loads(raw) == orjson.loads(wanted))
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


def _checked(*numbers: Array) -> tuple[int, int]:
    """Return the number of some items, and a sum of hashes, which depends on no order."""
    total = np.zeros(len(numbers[0]), "u8")
    for each in numbers:
        total = (total ^ each.astype("i8").view("u8")) * np.uint64(0x9E3779B97F4A7C15)
        total ^= total >> np.uint64(29)
    return len(total), int(total.sum(dtype="u8"))


def _checked_scores(items: Array, places: Array) -> tuple[int, int]:
    return _checked(items["user"], items["count"], items["latest"], places)


def _has_scored(raw: bytes, wanted: tuple[int, int]) -> bool:
    """Say whether scores as stored have these items, each at its place."""
    if len(raw) % SCORED_ITEM.itemsize:
        return False
    items = np.frombuffer(raw, SCORED_ITEM)
    has_count = items["count"] > 0
    places = np.flatnonzero(has_count)
    return _checked_scores(items[has_count], places) == wanted


def _has_ranks(raw: bytes, wanted: tuple[int, int]) -> bool:
    """Say whether a board as stored has these entries, in order."""
    if not raw or len(raw) % 12:
        return False
    ranking = unpacked_ranking(keys.DOJO, 0, raw)
    is_in_order = bool(np.all(ranking.scores[1:] < ranking.scores[:-1]))
    return is_in_order and _checked(ranking.users, ranking.scores) == wanted
