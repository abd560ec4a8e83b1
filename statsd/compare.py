"""Cached values beside computed ones.

A value is true for its stamp, and so it is computed for that moment: then what time alone changes
makes no difference. What differs is at first a suspicion. The event, or the mark, that will put
it right may be under way.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple

import msgspec
import orjson
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators import Calculator
from statsd.database import Database
from statsd.isolate import isolate
from statsd.refresh import Refresh
from statsd.statistics import CALCULATORS

_calculators: Mapping[str, Calculator[Any]] = {each.refresh.kind: each for each in CALCULATORS}


class Cached(NamedTuple):
    """What the cache has for one refresh."""

    values: Mapping[str, Any]
    """By key; None for a value that is not there."""
    foreign: frozenset[str]
    """Keys that another refresh has written since: two dojos may claim one reference id."""
    stamps: str
    """The stamps of all keys, in one text: as long as it stays the same, nothing was written."""
    moment: datetime | None
    """What the values are true for, naive UTC; None where there are none."""


class Difference(NamedTuple):
    """A refresh whose cached values are not those that were computed."""

    refresh: Refresh
    stamps: str
    present: bool
    """Whether the cache has anything for it."""
    what: list[str]
    """For people: counts, and names of fields."""


class Compared(NamedTuple):
    """Some refreshes, compared."""

    differences: list[Difference]
    failures: list[tuple[Refresh, Exception]]
    """Those that could not be computed."""


class Verdict(Enum):
    """What became of a suspicion."""

    WRITTEN = "written since"
    OWED = "owed, so that a daemon is about to compute it"
    DRIFTED = "wrong, and nothing is under way to put it right"


def is_statistic(refresh: Refresh) -> bool:
    """Say whether a refresh has a calculator, and so a value to compare."""
    return refresh.kind in _calculators


class Comparison:
    """Compares the cache with the database."""

    def __init__(self, redis: Redis, database: Database) -> None:
        self._redis = redis
        self._database = database

    async def every(self) -> list[Refresh]:
        """List all statistics that exist in the database, the busiest first."""
        async with self._database.snapshot() as connection:
            return [
                calculator.refresh.of(*row)
                for calculator in CALCULATORS
                for row in await connection.execute(calculator.every)
            ]

    async def compare(self, refreshes: Sequence[Refresh], now: datetime) -> Compared:
        """Compare; what is not in the cache is computed for `now`.

        What the cache has is read before anything is computed, so that whatever is written
        later shows in the stamps.
        """
        cached = await self._cached(refresh.name for refresh in refreshes)
        compared = Compared([], [])
        for group in _batches(refreshes, cached):
            moment = cached[group[0].name].moment or now
            computed, failed = await self._computed(group, moment)
            compared.failures.extend(failed)
            for refresh in computed:
                found = cached[refresh.name]
                own = {
                    key: value
                    for key, value in computed[refresh].items()
                    if key not in found.foreign
                }
                if what := list(dict.fromkeys(_differences(found.values, own))):
                    compared.differences.append(
                        Difference(refresh, found.stamps, found.moment is not None, what)
                    )
        return compared

    async def _computed(
        self, group: Sequence[Refresh], moment: datetime
    ) -> tuple[Mapping[Refresh, Mapping[str, Any]], list[tuple[Refresh, Exception]]]:
        async def compute(part: Sequence[Refresh]) -> Mapping[Refresh, Mapping[str, Any]]:
            calculator = _calculators[part[0].kind]
            async with self._database.snapshot() as connection:
                found = await calculator.acompute(connection, part, moment)
            return {refresh: found.get(refresh, {}) for refresh in part}

        parts, failed = await isolate(group, compute)
        return {refresh: part[refresh] for part in parts for refresh in part}, failed

    async def _cached(self, names: Iterable[str]) -> dict[str, Cached]:
        wanted = list(names)
        if not wanted:
            return {}
        held: Any = await self._redis.hmget(keys.HOLDINGS, wanted)
        return {
            name: await self._read(name, orjson.loads(raw or b"[]"))
            for name, raw in zip(wanted, held, strict=True)
        }

    async def _read(self, name: str, holdings: Sequence[str]) -> Cached:
        if not holdings:
            return Cached({}, frozenset(), "", None)
        owners: Any = await self._redis.hmget(keys.OWNERS, list(holdings))
        owner = dict(zip(holdings, owners, strict=True))
        own = [key for key in holdings if owner[key] in {None, name.encode()}]
        both = [form for key in own for form in (key, keys.updated(key))]
        found: Any = await self._redis.mget(both) if both else []
        values, stamps = found[::2], found[1::2]
        moments = [float(stamp) for stamp in stamps if stamp is not None]
        return Cached(
            {
                key: None if value is None else orjson.loads(value)
                for key, value in zip(own, values, strict=True)
            },
            frozenset(holdings) - frozenset(own),
            " ".join(
                f"{key}={stamp and stamp.decode()}" for key, stamp in zip(own, stamps, strict=True)
            ),
            datetime.fromtimestamp(max(moments), UTC).replace(tzinfo=None) if moments else None,
        )

    async def verdicts(self, suspects: Mapping[str, str]) -> dict[str, Verdict]:
        """Judge, by name, those that differed when their stamps were these.

        Events of that time have to be accepted first: that is for the caller to wait for.
        """
        async with self._redis.pipeline(transaction=False) as pipeline:
            for name in suspects:
                pipeline.exists(keys.mark(name))
            owed = dict(zip(suspects, await pipeline.execute(), strict=True))
        cached = await self._cached(suspects)
        verdicts = {}
        for name, stamps in suspects.items():
            if cached[name].stamps != stamps:
                verdicts[name] = Verdict.WRITTEN
            else:
                verdicts[name] = Verdict.OWED if owed[name] else Verdict.DRIFTED
        return verdicts


def _batches(
    refreshes: Sequence[Refresh], cached: Mapping[str, Cached]
) -> Iterator[Sequence[Refresh]]:
    """Yield what can be computed by the same statements: of one kind, for one moment."""
    groups = defaultdict(list)
    for refresh in refreshes:
        groups[refresh.kind, cached[refresh.name].moment].append(refresh)
    for (kind, _), group in groups.items():
        size = _calculators[kind].batch
        yield from (group[first : first + size] for first in range(0, len(group), size))


def _differences(cached: Mapping[str, Any], computed: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs. No texts, which are other people's, and no names of dojos."""
    for key in sorted({*cached, *computed}):
        found, wanted = cached.get(key), msgspec.to_builtins(computed.get(key))
        if found == wanted:
            continue
        if key not in computed:
            yield "should not be there"
        elif found is None:
            yield "missing"
        elif isinstance(found, dict) and isinstance(wanted, dict):
            yield from (
                _difference(field, found.get(field), wanted.get(field))
                for field in sorted({*found, *wanted})
                if found.get(field) != wanted.get(field)
            )
        else:
            yield "differs"


def _difference(field: str, found: Any, wanted: Any) -> str:
    if isinstance(found, int) and isinstance(wanted, int):
        return f"{field} is {found}, should be {wanted}"
    return f"{field} differs"
