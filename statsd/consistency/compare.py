"""Comparing cached values with computed ones.

A cached value is compared with one computed for its as-of, so that changes by time alone make no
difference. A difference is at first a suspicion: the event or the pending job that will correct
the value may be under way.
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
DIGEST_SIZE = 8  # bytes
_EARLIEST = datetime(2000, 1, 1)  # noqa: DTZ001 - naive UTC; no daemon writes an earlier as-of


class Cached(NamedTuple):
    """The cached values of one job."""

    values: Mapping[str, Any]
    """By key; None for a missing value."""
    foreign: frozenset[str]
    """Keys that another job has written since: two dojos may claim one reference id."""
    digest: str
    """A digest of all as-ofs. It is the same as long as nothing was written."""
    as_of: datetime | None
    """The moment the values are true for, naive UTC; None if no as-of can be read."""


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

        The cache is read before anything is computed, so that every later write changes the
        digest.
        """
        cached = await self._cached(job.name for job in jobs)
        result = ComparisonResult([], [])
        for batch in _batches(jobs, cached):
            moment = cached[batch[0].name].as_of or now
            computed, failed = await self._computed(batch, moment)
            result.failures.extend(failed)
            result.differences.extend(await asyncio.to_thread(_differences, cached, computed))
        return result

    async def _computed(
        self, batch: Sequence[Job], moment: datetime
    ) -> tuple[Mapping[Job, Mapping[str, Any]], list[tuple[Job, Exception]]]:
        async def compute(part: Sequence[Job]) -> Mapping[Job, Mapping[str, Any]]:
            calculator = calculator_of(part[0].kind)
            async with self._database.snapshot() as snapshot:
                rows = await calculator.read(snapshot.rows, part, moment)
            values = await asyncio.to_thread(calculator.shape, rows)
            return {job: values.get(job, {}) for job in part}

        parts, failed = await bisect(batch, compute)
        return {job: part[job] for part in parts for job in part}, failed

    async def _cached(self, names: Iterable[str]) -> dict[str, Cached]:
        wanted = list(names)
        if not wanted:
            return {}
        indexed: Any = await self._redis.hmget(keys.KEY_INDEX, wanted)
        return {
            name: await self._read(name, orjson.loads(raw or b"[]"))
            for name, raw in zip(wanted, indexed, strict=True)
        }

    async def _read(self, name: str, indexed: Sequence[str]) -> Cached:
        """Read the values under the keys that the key index has of a job."""
        if not indexed:
            return Cached({}, frozenset(), "", None)
        owners: Any = await self._redis.hmget(keys.KEY_OWNERS, list(indexed))
        owner_of = dict(zip(indexed, owners, strict=True))
        own = [key for key in indexed if owner_of[key] in {None, name.encode()}]
        pairs = [form for key in own for form in (key, keys.updated(key))]
        found: Any = await self._redis.mget(pairs) if pairs else []
        values, as_ofs = found[::2], found[1::2]
        return Cached(
            {key: decoded(value) for key, value in zip(own, values, strict=True)},
            frozenset(indexed) - frozenset(own),
            hashlib.blake2b(repr((own, as_ofs)).encode(), digest_size=DIGEST_SIZE).hexdigest(),
            max((moment for moment in map(as_of_moment, as_ofs) if moment), default=None),
        )

    async def verdicts(self, suspects: Mapping[str, str]) -> dict[str, Verdict]:
        """Return the verdict on each suspect; `suspects` maps job names to digests.

        The caller has to wait first until all events of the moment of the comparison are accepted.
        """
        pending = await self._pending_names()
        dojos = {job.dojo_id for job in known(pending) if isinstance(job, UserEntries)}
        cached = await self._cached(suspects)
        verdicts = {}
        for job in known(suspects):
            name = job.name
            if cached[name].digest != suspects[name]:
                verdicts[name] = Verdict.WRITTEN
            elif (
                name in pending
                or getattr(job, "dojo_id", None) in dojos
                or _follows_from_pending(job, pending)
            ):
                verdicts[name] = Verdict.PENDING
            else:
                verdicts[name] = Verdict.DRIFTED
        return verdicts

    async def _pending_names(self) -> set[str]:
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


def _follows_from_pending(job: Job, pending: Collection[str]) -> bool:
    """Say whether the job is a dojo's crews, and the dojo's scoreboard is pending."""
    return isinstance(job, Crews) and Scoreboard(job.dojo_id).name in pending


def _batches(jobs: Sequence[Job], cached: Mapping[str, Cached]) -> Iterator[Sequence[Job]]:
    """Yield batches for the same statements: jobs of one kind, for one moment."""
    groups = defaultdict(list)
    for job in jobs:
        groups[job.kind, cached[job.name].as_of].append(job)
    for (kind, _), group in groups.items():
        size = calculator_of(kind).cost.batch
        yield from (group[first : first + size] for first in range(0, len(group), size))


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


def _differences(
    cached: Mapping[str, Cached], computed: Mapping[Job, Mapping[str, Any]]
) -> list[Difference]:
    found = (_difference(job, cached[job.name], values) for job, values in computed.items())
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
        cached.digest,
        cached_before=bool(cached.values or cached.foreign),
        all_missing=all(key in cached.values and cached.values[key] is None for key in differing),
        descriptions=list(
            dict.fromkeys(
                description
                for key in differing
                for description in _descriptions(cached.values.get(key), own.get(key))
            )
        ),
    )


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
