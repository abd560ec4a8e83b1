"""Cached values beside computed ones.

A value is true for its stamp, and so it is computed for that moment: then what time alone changes
makes no difference. What differs is at first a suspicion. The event, or the mark, that will put
it right may be under way.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple

import msgspec
import orjson
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators.catalog import calculator_of
from statsd.calculators.crews import Crews
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.user_entries import UserEntries
from statsd.job import Job, Priority, known
from statsd.jobs.bisect import bisect
from statsd.servers.database import Database

GARBLED: Any = object()
DIGEST = 8  # bytes
_EARLIEST = datetime(2000, 1, 1)  # noqa: DTZ001 - naive UTC; what is stamped before that is nobody's


class Cached(NamedTuple):
    """What the cache has for one refresh."""

    values: Mapping[str, Any]
    """By key; None for a value that is not there."""
    foreign: frozenset[str]
    """Keys that another refresh has written since: two dojos may claim one reference id."""
    as_ofs: str
    """A digest of the stamps of all keys: as long as it is the same, nothing was written."""
    moment: datetime | None
    """What the values are true for, naive UTC; None where no stamp says."""


class Difference(NamedTuple):
    """A refresh whose cached values are not those that were computed."""

    job: Job
    as_ofs: str
    cached_before: bool
    """Whether it was ever cached, as far as the cache knows."""
    lost: bool
    """Whether all that differs was cached and is gone: deleted, or evicted."""
    what: list[str]
    """For people: counts, and names of fields."""


class Compared(NamedTuple):
    """Some refreshes, compared."""

    differences: list[Difference]
    failures: list[tuple[Job, Exception]]
    """Those that could not be computed."""


class Verdict(Enum):
    """What became of a suspicion."""

    WRITTEN = "written since"
    PENDING = "owed, or what it follows from is, so that a daemon is about to compute it"
    DRIFTED = "wrong, and nothing is under way to put it right"


class Comparison:
    """Compares the cache with the database."""

    def __init__(self, redis: Redis, database: Database) -> None:
        self._redis = redis
        self._database = database

    async def compare(self, jobs: Sequence[Job], now: datetime) -> Compared:
        """Compare; what is not in the cache is computed for `now`.

        What the cache has is read before anything is computed, so that whatever is written
        later shows in the stamps.
        """
        cached = await self._cached(job.name for job in jobs)
        compared = Compared([], [])
        for group in _batches(jobs, cached):
            moment = cached[group[0].name].moment or now
            computed, failed = await self._computed(group, moment)
            compared.failures.extend(failed)
            compared.differences.extend(await asyncio.to_thread(_differences, cached, computed))
        return compared

    async def _computed(
        self, group: Sequence[Job], moment: datetime
    ) -> tuple[Mapping[Job, Mapping[str, Any]], list[tuple[Job, Exception]]]:
        async def compute(part: Sequence[Job]) -> Mapping[Job, Mapping[str, Any]]:
            calculator = calculator_of(part[0].kind)
            async with self._database.snapshot() as snapshot:
                rows = await calculator.read(snapshot.rows, part, moment)
            found = await asyncio.to_thread(calculator.shape, rows)
            return {job: found.get(job, {}) for job in part}

        parts, failed = await bisect(group, compute)
        return {job: part[job] for part in parts for job in part}, failed

    async def _cached(self, names: Iterable[str]) -> dict[str, Cached]:
        wanted = list(names)
        if not wanted:
            return {}
        cached_before: Any = await self._redis.hmget(keys.KEY_INDEX, wanted)
        return {
            name: await self._read(name, orjson.loads(raw or b"[]"))
            for name, raw in zip(wanted, cached_before, strict=True)
        }

    async def _read(self, name: str, key_index: Sequence[str]) -> Cached:
        if not key_index:
            return Cached({}, frozenset(), "", None)
        key_owners: Any = await self._redis.hmget(keys.KEY_OWNERS, list(key_index))
        owner = dict(zip(key_index, key_owners, strict=True))
        own = [key for key in key_index if owner[key] in {None, name.encode()}]
        both = [form for key in own for form in (key, keys.updated(key))]
        found: Any = await self._redis.mget(both) if both else []
        values, as_ofs = found[::2], found[1::2]
        return Cached(
            {key: decoded(value) for key, value in zip(own, values, strict=True)},
            frozenset(key_index) - frozenset(own),
            hashlib.blake2b(repr((own, as_ofs)).encode(), digest_size=DIGEST).hexdigest(),
            max((moment for moment in map(as_of_moment, as_ofs) if moment), default=None),
        )

    async def verdicts(self, suspects: Mapping[str, str]) -> dict[str, Verdict]:
        """Judge, by name, those that differed when their stamps were these.

        Events of that time have to be accepted first: that is for the caller to wait for.
        """
        pending = await self._owed()
        dojos = {each.dojo_id for each in known(pending) if isinstance(each, UserEntries)}
        cached = await self._cached(suspects)
        verdicts = {}
        for job in known(suspects):
            name = job.name
            if cached[name].as_ofs != suspects[name]:
                verdicts[name] = Verdict.WRITTEN
            elif (
                name in pending
                or getattr(job, "dojo_id", None) in dojos
                or _follow_from(job, pending)
            ):
                verdicts[name] = Verdict.PENDING
            else:
                verdicts[name] = Verdict.DRIFTED
        return verdicts

    async def _owed(self) -> set[str]:
        """Return the names of all that is owed, now or later."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            for priority in Priority:
                pipeline.zrange(keys.due(priority), 0, -1)
            pipeline.zrange(keys.DELAYED, 0, -1)
            *due, delayed = await pipeline.execute()
        return {name.decode() for names in due for name in names} | {
            each.split(b"|", 2)[2].decode()
            for each in delayed  # "due|class|name"
        }


def _follow_from(job: Job, pending: Collection[str]) -> bool:
    """Say whether these are crews, whose boards are owed."""
    return isinstance(job, Crews) and Scoreboard(job.dojo_id).name in pending


def _batches(jobs: Sequence[Job], cached: Mapping[str, Cached]) -> Iterator[Sequence[Job]]:
    """Yield what can be computed by the same statements: of one kind, for one moment."""
    groups = defaultdict(list)
    for job in jobs:
        groups[job.kind, cached[job.name].moment].append(job)
    for (kind, _), group in groups.items():
        size = calculator_of(kind).batch
        yield from (group[first : first + size] for first in range(0, len(group), size))


def decoded(raw: bytes | None) -> Any:
    """Return a cached value; anything else that somebody put there equals no computed one."""
    if raw is None:
        return None
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return GARBLED
    return GARBLED if value is None else value


def as_of_moment(as_of: bytes | None) -> datetime | None:
    """Return the moment (naive UTC) that a stamp says; None where it says none."""
    try:
        moment = datetime.fromtimestamp(float(as_of or ""), UTC).replace(tzinfo=None)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment >= _EARLIEST else None


def _differences(
    cached: Mapping[str, Cached], computed: Mapping[Job, Mapping[str, Any]]
) -> list[Difference]:
    found = (_difference(each, cached[each.name], own) for each, own in computed.items())
    return [difference for difference in found if difference]


def _difference(job: Job, cached: Cached, computed: Mapping[str, Any]) -> Difference | None:
    own = {
        key: msgspec.to_builtins(value)
        for key, value in computed.items()
        if key not in cached.foreign
    }
    differing = [
        key for key in sorted({*cached.values, *own}) if cached.values.get(key) != own.get(key)
    ]
    if not differing:
        return None
    return Difference(
        job,
        cached.as_ofs,
        cached_before=bool(cached.values or cached.foreign),
        lost=all(key in cached.values and cached.values[key] is None for key in differing),
        what=list(
            dict.fromkeys(
                what
                for key in differing
                for what in _descriptions(cached.values.get(key), own.get(key))
            )
        ),
    )


def _descriptions(found: Any, wanted: Any) -> Iterator[str]:
    """Yield what differs. No texts, which are other people's, and no names of dojos."""
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
