"""A cold start: every statistic, computed into an empty cache."""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from time import perf_counter
from typing import NamedTuple

from benchmarks import floors
from benchmarks.memory import peak_aims
from benchmarks.result import Aim, Result
from benchmarks.stage import FILL_INTERVAL, Memory, Stage
from benchmarks.waiting import wait
from benchmarks.webapp import Presence
from statsd import keys

NAME = "cold-start"


class ColdStart(NamedTuple):
    """Times and memory of one cold start; times in seconds."""

    whole: float
    """From the start of the process."""
    work: float
    """From the first enqueued job."""
    stats: float
    """From there until the stats of all dojos are there."""
    by_kind: Counter[str]
    """The time that all workers spent on each kind; two workers run at once."""
    memory: Memory


class Floor(NamedTuple):
    """Seconds of bare passes, one after another."""

    relation: float
    """The relation once, with its transfer."""
    write: float
    """All values."""
    stats: float
    """The values of dojo stats."""
    passes: Mapping[str, float]
    """The own passes of kinds of statistics."""


def measure(stage: Stage) -> Iterator[Result]:
    """Alternate cold starts with the bare passes that are their floor."""
    stage.end_daemon()
    expected = stage.webapp.expected_keys()
    starts, found = [], []
    for _ in range(stage.effort.rounds):
        starts.append(_start(stage, expected))
        found.append(_floor(stage, expected))
    relation = statistics.median(each.relation for each in found)
    written = statistics.median(each.write for each in found)
    yield Result(
        NAME,
        "everything, from the first job",
        statistics.median(each.work for each in starts),
        "s",
        relation + written,
        stage.aim(M=Aim(2, of_ratio=True)),
        "floor: the relation, and writing all values",
    )
    yield Result(
        NAME,
        "stats of all dojos, from the first job",
        statistics.median(each.stats for each in starts),
        "s",
        statistics.median(each.passes["dojo_stats"] + each.stats for each in found),
        stage.aim(M=Aim(3)),
    )
    yield Result(
        NAME, "with the start of the process", statistics.median(each.whole for each in starts), "s"
    )
    yield Result(NAME, "floor: the relation, and its transfer", relation, "s")
    yield Result(NAME, "floor: writing all values", written, "s")
    for kind in sorted({*chain(*(each.by_kind for each in starts))}):
        passes = [each.passes[kind] for each in found if kind in each.passes]
        yield Result(
            NAME,
            f"worker time, {kind}",
            statistics.median(each.by_kind[kind] for each in starts),
            "s",
            statistics.median(passes) if passes else None,
        )
    peak = max(each.memory.peak for each in starts)
    yield Result(NAME, "daemon, peak", peak, "MB", aims=peak_aims(stage))


def _floor(stage: Stage, expected: Mapping[str, Sequence[str]]) -> Floor:
    """Make the bare passes, with the values that a cold start left."""
    stats = floors.write(stage.servers, expected["dojo"])
    others = [key for kind, own in expected.items() if kind != "dojo" for key in own]
    return Floor(
        floors.read_relation(stage.servers),
        floors.write(stage.servers, others) + stats,
        stats,
        {kind: floors.own_pass(stage.servers, kind) for kind in floors.OWN_PASSES},
    )


def _start(stage: Stage, expected: Mapping[str, Sequence[str]]) -> ColdStart:
    """Start a daemon with an empty Redis, and wait until it has computed everything."""
    cache = stage.webapp.cache
    cache.flushall()
    began = perf_counter()
    daemon = stage.start()
    try:
        wait(lambda: bool(cache.exists(keys.CLOCK)), "the first job")
        enqueued = perf_counter()
        stats_are_there = Presence(cache, expected["dojo"]).is_complete
        wait(stats_are_there, "the stats of all dojos", interval=FILL_INTERVAL)
        stats = perf_counter()
        is_complete = Presence(cache, [*chain(*expected.values())]).is_complete
        wait(is_complete, "the cold start", interval=FILL_INTERVAL)
        done = perf_counter()
        memory = daemon.memory()
    finally:
        daemon.stop()
    return ColdStart(done - began, done - enqueued, stats - enqueued, daemon.time_by_kind(), memory)
