"""Comparing cached values with computed ones.

A cached value is compared with one computed for its as-of, so that changes by time alone make no
difference. A difference is at first a suspicion: the event or the pending job that will correct
the value may be under way.
"""

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import Any, NamedTuple

import msgspec
import orjson
from redis.asyncio import Redis

from statsd import keys
from statsd.boards.exports_switch import has_exports
from statsd.calculators import Calculator, challenge_solves, scores
from statsd.calculators.catalog import calculator_of
from statsd.calculators.dojo_arrays import PARTS, Boards, Exports
from statsd.calculators.dojo_check import DojoCheck, RecordsCheck
from statsd.calculators.user_entries import UserEntries
from statsd.job import Job, Priority, known
from statsd.jobs.bisect import bisect
from statsd.servers.database import Database

MOVERS = (UserEntries, Exports, DojoCheck, RecordsCheck)
"""The jobs that have no values of their own, and will correct those of their dojo."""
GARBLED: Any = object()
DIGEST_SIZE = 8  # bytes
BYTES = 30_000_000  # of cached values that are in memory at once, about
VALUES = 20  # values read at once
READ_AT_ONCE = 2000  # as-ofs and owners of keys
PAGE = 100  # rows read at once
WITHOUT_BOARDS = (scores.calculator, challenge_solves.calculator)
_EARLIEST = datetime(2000, 1, 1)  # noqa: DTZ001 - naive UTC; no daemon writes an earlier as-of


class Cached(NamedTuple):
    """What Redis has of one job, without its values."""

    own: list[str]
    """The keys of its values."""
    foreign: frozenset[str]
    """Keys that another job has written since: two dojos may claim one reference id."""
    digest: str
    """A digest of all as-ofs. It is the same as long as nothing was written."""
    as_of: datetime | None
    """The newest moment that values are true for, naive UTC; None if no as-of can be read."""


class CachedValue(NamedTuple):
    """One cached value."""

    raw: bytes | None
    """None if it is missing."""
    as_of: datetime | None


class Difference(NamedTuple):
    """A job whose cached values differ from the computed ones."""

    job: Job
    digest: str
    """Of the as-ofs, as in `Cached`."""
    cached_before: bool
    """Whether the key index has keys of the job."""
    all_missing: bool
    """Whether every differing value was cached before and is gone: deleted, or evicted."""
    descriptions: list[str]
    """For people: counts, and names of fields."""


class ComparisonResult(NamedTuple):
    """The result of comparing some jobs."""

    differences: list[Difference]
    failures: list[tuple[Job, Exception]]
    """Jobs that could not be computed."""


class Verdict(Enum):
    """The outcome of a suspicion."""

    WRITTEN = "written since"
    PENDING = "a daemon is about to compute it"
    DRIFTED = "wrong, and no pending job will correct it"


class Comparison:
    """Compares the cache with the database."""

    def __init__(self, redis: Redis, database: Database) -> None:
        self._redis = redis
        self._database = database

    async def compare(self, jobs: Sequence[Job], now: datetime) -> ComparisonResult:
        """Compare the values of some jobs; those with no as-of are computed for `now`.

        The as-ofs are read before anything is computed, so that every later write changes the
        digest.
        """
        cached = await self._cached([job.name for job in jobs])
        exports = await has_exports(self._redis)
        found: dict[Job, list[KeyDifference]] = {job: [] for job in jobs}
        failures: dict[Job, Exception] = {}
        by_kind: dict[str, list[Job]] = defaultdict(list)
        for job in jobs:
            by_kind[job.kind].append(job)
        for kind, own in by_kind.items():
            calculators = calculators_of(kind, exports=exports)
            for calculator in calculators:
                keys_of = {job: _keys_of(cached[job.name], calculator, calculators) for job in own}
                for some in await self._batches(calculator, keys_of):
                    batch = Batch(calculator, some, keys_of, cached, now)
                    await self._compare(batch, found, failures)
        differences = (
            _difference(job, cached[job.name], each)
            for job, each in found.items()
            if each and job not in failures
        )
        return ComparisonResult([*differences], [*failures.items()])

    async def _batches(
        self, calculator: Calculator[Any], keys_of: Mapping[Job, Sequence[str]]
    ) -> list[list[Job]]:
        """Return jobs in batches for the same statements, whose cached values fit into memory."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for own in keys_of.values():
                for key in own:
                    pipeline.strlen(key)
            lengths = iter(await pipeline.execute(raise_on_error=False))
        batches: list[list[Job]] = [[]]
        size = 0
        for job, own in keys_of.items():
            bytes_of_job = sum(
                length for _, length in zip(own, lengths, strict=False) if isinstance(length, int)
            )
            if batches[-1] and (
                len(batches[-1]) == calculator.cost.batch or size + bytes_of_job > BYTES
            ):
                batches.append([])
                size = 0
            batches[-1].append(job)
            size += bytes_of_job
        return batches

    async def _compare(
        self,
        batch: "Batch",
        found: Mapping[Job, list["KeyDifference"]],
        failures: dict[Job, Exception],
    ) -> None:
        """Compare all values for one moment, and those that differ for their own."""
        jobs = [job for job in batch.jobs if job not in failures]
        batch.values = await self._values([key for job in jobs for key in batch.keys_of[job]])
        again: dict[datetime, dict[Job, set[str]]] = defaultdict(lambda: defaultdict(set))
        first, failed = await self._differing(batch, jobs, batch.moment)
        failures.update(failed)
        for job, differences in first.items():
            for each in differences:
                moment = batch.moment_of(job, each.key)
                if moment == batch.moment:
                    found[job].append(each)
                else:
                    again[moment][job].add(each.key)
        for moment, suspected in again.items():
            anew, failed = await self._differing(batch, [*suspected], moment)
            failures.update(failed)
            for job, differences in anew.items():
                found[job].extend(each for each in differences if each.key in suspected[job])

    async def _differing(
        self, batch: "Batch", jobs: Sequence[Job], moment: datetime
    ) -> tuple[dict[Job, list["KeyDifference"]], list[tuple[Job, Exception]]]:
        """Return the values of jobs that differ from those computed for a moment, and failures."""

        async def compare(some: Sequence[Job]) -> dict[Job, list[KeyDifference]]:
            found: dict[Job, list[KeyDifference]] = {}
            async with aclosing(self._results(batch.calculator, some, moment)) as parts:
                async for part, results in parts:
                    found |= await asyncio.to_thread(batch.differing, part, results)
            return found

        if not jobs:
            return {}, []
        results, failures = await bisect(jobs, compare)
        return {job: each for found in results for job, each in found.items()}, failures

    async def _results(
        self, calculator: Calculator[Any], jobs: Sequence[Job], moment: datetime
    ) -> AsyncGenerator[tuple[Sequence[Job], Sequence[Sequence[Any]]], None]:
        """Yield the rows of the statements with the jobs that they are of, all of one snapshot.

        Where values are large, they are of some jobs at a time.
        """
        own = [calculator.job.of(*msgspec.structs.astuple(job)) for job in jobs]
        part = calculator.cost.part or (1 if calculator in PARTS else 0)
        async with self._database.snapshot() as snapshot:
            if not part:
                yield jobs, await calculator.read(snapshot.rows, own, moment)
                return
            parameters = calculator.parameters(own, moment)
            groups = [
                await snapshot.groups(statement, parameters, page=PAGE)
                for statement in calculator.statements
            ]
            in_order = sorted(jobs, key=msgspec.structs.astuple)
            for first in range(0, len(jobs), part):
                some = in_order[first : first + part]
                ids = [number for job in some for number in msgspec.structs.astuple(job)]
                yield some, [[row for each in ids for row in await one.of(each)] for one in groups]

    async def _cached(self, names: Collection[str]) -> dict[str, Cached]:
        """Read the as-ofs of the keys that the key index has of some jobs."""
        indexed = await self._pages(partial(self._redis.hmget, keys.KEY_INDEX), names)
        index = {name: orjson.loads(raw or b"[]") for name, raw in zip(names, indexed, strict=True)}
        every = [key for own in index.values() for key in own]
        owners = iter(await self._pages(partial(self._redis.hmget, keys.KEY_OWNERS), every))
        as_ofs = iter(await self._pages(self._redis.mget, [*map(keys.updated, every)]))
        return {
            name: _cached(name, [(key, next(owners), next(as_ofs)) for key in own])
            for name, own in index.items()
        }

    async def _pages(self, read: Callable[[list[str]], Any], wanted: Collection[str]) -> list[Any]:
        found: list[Any] = []
        every = list(wanted)
        for first in range(0, len(every), READ_AT_ONCE):
            found += await read(every[first : first + READ_AT_ONCE])
        return found

    async def _values(self, wanted: Sequence[str]) -> dict[str, CachedValue]:
        """Read values, some at a time: together they may be large."""
        values: dict[str, CachedValue] = {}
        for first in range(0, len(wanted), VALUES):
            some = wanted[first : first + VALUES]
            pairs = [form for key in some for form in (key, keys.updated(key))]
            found: Any = await self._redis.mget(pairs)
            values |= {
                key: CachedValue(raw, as_of_moment(as_of))
                for key, raw, as_of in zip(some, found[::2], found[1::2], strict=True)
            }
        return values

    async def verdicts(self, suspects: Mapping[str, str]) -> dict[str, Verdict]:
        """Return the verdict on each suspect; `suspects` maps job names to digests.

        The caller has to wait first until all events of the moment of the comparison are accepted.
        """
        pending = await self.pending_names()
        dojos = {job.dojo_id for job in known(pending) if isinstance(job, MOVERS)}
        cached = await self._cached(suspects)
        verdicts = {}
        for job in known(suspects):
            name = job.name
            if cached[name].digest != suspects[name]:
                verdicts[name] = Verdict.WRITTEN
            elif name in pending or getattr(job, "dojo_id", None) in dojos:
                verdicts[name] = Verdict.PENDING
            else:
                verdicts[name] = Verdict.DRIFTED
        return verdicts

    async def pending_names(self) -> set[str]:
        """Return the names of all pending and delayed jobs."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            for priority in Priority:
                pipeline.zrange(keys.due(priority), 0, -1)
            pipeline.zrange(keys.DELAYED, 0, -1)
            *due, delayed = await pipeline.execute()
        return {name.decode() for names in due for name in names} | {
            each.split(b"|", 2)[2].decode()
            for each in delayed  # "due|class|name"
        }


class KeyDifference(NamedTuple):
    """A cached value that differs from the computed one."""

    key: str
    is_gone: bool
    """Whether it was cached before and is missing."""
    descriptions: list[str]


class Batch:
    """Jobs whose values one calculator computes together, at first for one moment."""

    values: Mapping[str, CachedValue]

    def __init__(
        self,
        calculator: Calculator[Any],
        jobs: Sequence[Job],
        keys_of: Mapping[Job, Sequence[str]],
        cached: Mapping[str, Cached],
        now: datetime,
    ) -> None:
        self.calculator = calculator
        self.jobs = jobs
        self.keys_of = keys_of
        self._cached = {job: cached[job.name] for job in jobs}
        self._now = now
        as_ofs = (each.as_of for each in self._cached.values())
        # The value of an earlier as-of rarely differs: what changes with time is written anew then.
        self.moment = max((each for each in as_ofs if each and each <= now), default=now)

    def moment_of(self, job: Job, key: str) -> datetime:
        """Return the moment that a value has to be true for."""
        value = self.values.get(key)
        return (value and value.as_of) or self._cached[job].as_of or self._now

    def differing(
        self, jobs: Sequence[Job], results: Sequence[Sequence[Any]]
    ) -> dict[Job, list[KeyDifference]]:
        """Return the differences between cached and computed values; the latter from their rows."""
        computed = self.calculator.shape(results)
        found = {}
        for job in jobs:
            own = computed.get(self.calculator.job.of(*msgspec.structs.astuple(job)), {})
            if differing := self._differing(job, own):
                found[job] = differing
        return found

    def _differing(self, job: Job, computed: Mapping[str, Any]) -> list[KeyDifference]:
        foreign, indexed = self._cached[job].foreign, self.keys_of[job]
        found = []
        for key in sorted({*indexed, *(computed.keys() - foreign)}):
            raw, value = self.values[key].raw if key in indexed else None, computed.get(key)
            # Most values are equal as texts: only the others are decoded, which takes much memory.
            if value is not None and raw == msgspec.json.encode(value):
                continue
            cached, wanted = decoded(raw), msgspec.to_builtins(value)
            if cached != wanted:
                is_gone = raw is None and key in indexed
                found.append(KeyDifference(key, is_gone, [*_descriptions(cached, wanted)]))
        return found


def calculators_of(kind: str, *, exports: bool) -> Sequence[Calculator[Any]]:
    """Return the calculators of the values of a kind; `exports` as `has_exports` says.

    The arrays of a dojo are of several sorts, computed one after another: together they take much
    memory.
    """
    if kind != Boards.kind:
        return (calculator_of(kind),)
    return PARTS if exports else WITHOUT_BOARDS


def _keys_of(
    cached: Cached, calculator: Calculator[Any], every: Sequence[Calculator[Any]]
) -> list[str]:
    """Return the cached keys of a job that one of its calculators computes.

    The first one also has those that should not be there.
    """
    if len(every) == 1:
        return cached.own
    kinds = {each.job.kind for each in every}
    return [
        key
        for key in cached.own
        if _sort(key) == calculator.job.kind or (calculator is every[0] and _sort(key) not in kinds)
    ]


def _cached(name: str, found: Sequence[tuple[str, bytes | None, bytes | None]]) -> Cached:
    """Return what Redis has of a job; `found` has key, owner and as-of of each indexed value."""
    if not found:
        return Cached([], frozenset(), "", None)
    own = {key: as_of for key, owner, as_of in found if owner in {None, name.encode()}}
    as_ofs = [*own.values()]
    return Cached(
        [*own],
        frozenset(key for key, *_ in found) - own.keys(),
        hashlib.blake2b(repr(([*own], as_ofs)).encode(), digest_size=DIGEST_SIZE).hexdigest(),
        max((moment for moment in map(as_of_moment, as_ofs) if moment), default=None),
    )


def _difference(job: Job, cached: Cached, found: list[KeyDifference]) -> Difference:
    found.sort(key=lambda each: each.key)
    sorts = {_sort(key) for key in (*cached.own, *(each.key for each in found))}
    return Difference(
        job,
        cached.digest,
        cached_before=bool(cached.own or cached.foreign),
        all_missing=all(each.is_gone for each in found),
        descriptions=_distinct(found, sorts),
    )


def decoded(raw: bytes | None) -> Any:
    """Return a cached value; None if it is missing, GARBLED if no daemon can have written it."""
    if raw is None:
        return None
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return GARBLED
    return GARBLED if value is None else value


def as_of_moment(as_of: bytes | None) -> datetime | None:
    """Return the moment (naive UTC) of a stored as-of; None if it is missing or unreadable."""
    try:
        moment = datetime.fromtimestamp(float(as_of or ""), UTC).replace(tzinfo=None)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment >= _EARLIEST else None


def _distinct(found: Sequence[KeyDifference], sorts: Collection[str]) -> list[str]:
    """Return descriptions without duplicates, after their sort where only some have them.

    Where several values of a sort differ, their number comes with it.
    """
    texts = [(_sort(each.key), text) for each in found for text in each.descriptions]
    every = dict.fromkeys(text for _, text in texts)
    if len(sorts) == 1 or (len(every) == 1 and {sort for sort, _ in texts} == {*sorts}):
        return list(every)
    numbers = Counter(_sort(each.key) for each in found)
    return list(dict.fromkeys(f"{_words(sort, numbers[sort])}: {text}" for sort, text in texts))


def _sort(key: str) -> str:
    """Return what a key is of: `scoreboard`, `scores`. The arrays of a dojo are of several."""
    return key.split(":")[1]


def _words(sort: str, number: int) -> str:
    words = sort.replace("_", " ")
    return words if number == 1 else f"{words} ({number} keys)"


def _descriptions(found: Any, wanted: Any) -> Iterator[str]:
    """Yield the differences in words, without texts of users and without names of dojos."""
    if wanted is None:
        yield "should not be there"
    elif found is None:
        yield "missing"
    elif found is GARBLED:
        yield "is garbled"
    elif isinstance(found, dict) and isinstance(wanted, dict):
        for field in sorted({*found, *wanted}):
            if found.get(field) != wanted.get(field):
                yield _description(field, found.get(field), wanted.get(field))
    else:
        yield "differs"


def _description(field: str, found: Any, wanted: Any) -> str:
    if isinstance(found, int) and isinstance(wanted, int):
        return f"{field} is {found}, should be {wanted}"
    return f"{field} differs"
