"""The figures of a scenario, and the assertions at its end."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import time
from typing import Any, NamedTuple

import msgspec
import orjson
import redis
import sqlalchemy as sa

from statsd import keys, schema
from statsd.calculators import Calculator
from statsd.calculators.catalog import STATISTICS
from statsd.calculators.dojo_arrays import Exports
from statsd.calculators.dojo_check import DojoCheck, RecordsCheck
from statsd.calculators.user_entries import UserEntries
from statsd.consistency.missed_solves import Watermark
from statsd.consistency.reconcile import Reconcile
from statsd.job import Job, Priority, known
from tests.faults.load import Note
from tests.oracles.stored_boards import live_board

SOON = 30  # seconds; jobs that are due later wait for a moment, such as midnight
MOVERS: tuple[type[Job], ...] = (UserEntries, Exports, DojoCheck, RecordsCheck, Reconcile)
EXACT_KINDS = {each.job.kind for each in STATISTICS} | {each.kind for each in MOVERS}
"""The kinds that make values right. Search and audit are enqueued every second."""


class Unfinished(NamedTuple):
    """Work left: entries not read, entries not acknowledged, and jobs that are due soon."""

    unread: int
    pending: int
    jobs: int


def unfinished(cache: "redis.Redis") -> Unfinished:
    """Count the work left at one moment; without a consumer group, `pending` is -1."""
    with cache.pipeline(transaction=True) as pipeline:
        pipeline.hget(keys.CLOCK, "offset")
        pipeline.xlen(keys.STREAM)
        pipeline.xpending(keys.STREAM, keys.GROUP)
        pipeline.hkeys(keys.LEASES)
        pipeline.keys(keys.job("*"))
        pipeline.zrange(keys.DELAYED, 0, -1, withscores=True)
        for priority in Priority:
            pipeline.zrange(keys.due(priority), 0, -1, withscores=True)
        offset, entries, group, leases, hashes, delayed, *due = pipeline.execute(
            raise_on_error=False
        )
    delayed = [(entry.split(b"|", 2)[2], due) for entry, due in delayed]
    pending = -1 if isinstance(group, redis.ResponseError) else int(group["pending"])
    soon = (time() + SOON) * 1_000_000 + int(offset or 0)
    queue = dict(pair for pairs in due for pair in pairs)
    enqueued = {name.removeprefix(keys.JOB.encode()) for name in hashes}
    names = {name for name, score in [*queue.items(), *delayed] if score <= soon}
    names |= set(leases) | (enqueued ^ queue.keys())  # a job in one of them only is lost
    names |= {name for name in queue.keys() - names if _has_failed(cache, name)}
    count = sum(name.decode().split(":")[0] in EXACT_KINDS for name in names)
    return Unfinished(entries - max(0, pending), pending, count)


def _has_failed(cache: "redis.Redis", name: bytes) -> bool:
    return bool(cache.hget(keys.job(name.decode()), "attempts"))


def watermark_of(cache: "redis.Redis") -> int | None:
    """Return the watermark of the search for missed solves.

    It is None before the first search, and while a solve is suspect. The search enqueues the jobs
    of a suspect later, even if a reconcile has made the values right.
    """
    raw: Any = cache.get(keys.WATERMARK)
    watermark = msgspec.json.decode(raw, type=Watermark) if raw else None
    return None if watermark is None or watermark.suspects else watermark.low


def drifted(cache: "redis.Redis") -> int:
    """Return the number of drifted values that the audit has found."""
    audit: Any = cache.get(keys.AUDIT)
    return sum(orjson.loads(audit or b"{}").get("drift", {}).values())


class Value(NamedTuple):
    """A cached value, and the result of a full calculation for its as-of."""

    key: str
    as_of: float
    cached: Any
    computed: Any


def compare(engine: sa.Engine, cache: "redis.Redis") -> tuple[int, list[Value]]:
    """Compare every cached value with a full calculation for the value's as-of.

    The live boards are compared too. Return the number of compared values, and the wrong values.
    A missing value is wrong, and so is a value that should not exist.
    """
    found: dict[str, Value] = {}
    with engine.connect() as connection:
        dojos = set(connection.scalars(sa.select(schema.dojos.c.dojo_id)))
        for calculator in STATISTICS:
            for value in _values(connection, cache, calculator):
                found[value.key] = value
    generations: Any = cache.hkeys(keys.GENERATIONS)
    listed = {each.decode() for each in generations}
    for raw in cache.scan_iter("stats:*", count=1000):
        key = raw.decode()
        if _is_left_over(key, dojos, listed) and key not in found:
            found[key] = Value(key, 0, "something", "nothing")
    return len(found), [value for value in found.values() if value.cached != value.computed]


def _values(
    connection: sa.Connection, cache: "redis.Redis", calculator: Calculator[Any]
) -> Iterator[Value]:
    every = [calculator.job.of(*row) for row in connection.execute(calculator.every)]
    indexed: Any = cache.hkeys(keys.KEY_INDEX)  # a user without solves may have an empty value
    own = [each for each in known(name.decode() for name in indexed) if _is_of(calculator, each)]
    wanted = list(dict.fromkeys([*every, *own]))
    for job, values in calculator.compute(connection, wanted, _moment(time())).items():
        then: dict[float, Any] = {}  # by moment: the arrays of a dojo are written apart
        for key in values:
            raw, as_of = cache.mget(key, keys.updated(key))
            moment = float(as_of or 0)
            if moment not in then:
                then[moment] = calculator.compute(connection, [job], _moment(moment))[job]
            cached = orjson.loads(raw or b"null")
            yield Value(key, moment, cached, then[moment][key])
            if key.startswith(keys.SCOREBOARD):
                yield Value(f"live {key}", moment, _live(cache, key), values[key])


def _is_of(calculator: Calculator[Any], job: Job) -> bool:
    return isinstance(job, calculator.job)


def _live(cache: "redis.Redis", key: str) -> Any:
    """Return the live board that belongs to a scoreboard's key."""
    *_, kind, ids = key.split(":", 3)
    *numbers, days = map(int, ids.split(":"))
    return live_board(cache, numbers[0], numbers[1] if kind == "module" else None, days)


def _is_left_over(key: str, dojos: Collection[int], generations: Collection[str]) -> bool:
    """Return whether a key should not exist.

    It is not private, not an as-of, and not a state of an existing dojo. What a killed daemon left
    of a state that it was building is removed later, if it is among the `generations`.
    """
    if key == keys.CONTAINERS:  # not from the database
        return False
    if not key.startswith(keys.BOARDS):
        return not key.startswith(keys.INTERNAL) and not key.endswith(keys.updated(""))
    generation = key.removeprefix(keys.BOARDS).partition(":")[0]
    return generation not in generations if "@" in generation else int(generation) not in dojos


def _moment(as_of: float) -> datetime:
    return datetime.fromtimestamp(as_of, UTC).replace(tzinfo=None)


def lost_changes(wrong: Iterable[Value], notes: Iterable[Note]) -> int:
    """Count the changes that wrong values may lack: all since the oldest as-of of these values.

    The count is at least one for each wrong value.
    """
    moments = [value.as_of for value in wrong]
    if not moments:
        return 0
    return max(len(moments), sum(note.moment >= min(moments) for note in notes))


@dataclass(frozen=True)
class Figures:
    """The figures of one scenario."""

    scenario: str
    seed: int
    changes: int
    events: int
    unpublished: int
    """Events that Redis did not accept."""
    faults: Mapping[str, int]
    unfinished: Unfinished
    compared: int
    wrong: list[Value]
    lost: int
    dead: list[dict[bytes, bytes]]
    """The dead letters."""
    drift: int
    exits: list[int]
    seconds: float
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return all figures in one line."""
        made = [f"{count} {name}" for name, count in self.faults.items()]
        done = [
            f"{self.changes} changes",
            f"{self.events} events",
            f"{self.unpublished} not published",
            *made,
        ]
        left = [
            f"{self.compared} values compared",
            f"{len(self.wrong)} wrong",
            f"{self.lost} lost",
            f"{self.unfinished.unread} unread",
            f"{self.unfinished.pending} pending entries",
            f"{self.unfinished.jobs} pending jobs",
            f"{len(self.dead)} dead letters",
            f"{self.drift} drift",
            f"exit codes {sorted(set(self.exits))}",
        ]
        parts = [", ".join(done), ", ".join(left), *self.notes]
        return f"{self.scenario}: {'; '.join(parts)}; {self.seconds:.1f} s, seed {self.seed}"

    def check(self, *, dead: int, drift: bool) -> None:
        """Assert that nothing is wrong or left; `dead` letters are expected, `drift` is allowed."""
        assert not self.wrong, f"{len(self.wrong)} values are wrong, the first: {self.wrong[0]}"
        assert self.lost == 0
        assert self.unfinished == (0, 0, 0)
        assert self.compared > 0
        assert len(self.dead) == dead, [letter.get(b"traceback") for letter in self.dead]
        assert drift or self.drift == 0
        assert set(self.exits) == {0}
