"""A cold start: every statistic, computed into an empty cache."""

import statistics
from collections import Counter
from collections.abc import Iterator
from time import perf_counter
from typing import NamedTuple

from benchmarks import floors
from benchmarks.result import Aim, Result
from benchmarks.stage import Memory, Stage
from benchmarks.waiting import wait
from statsd import keys

NAME = "cold-start"


class ColdStart(NamedTuple):
    """Times and memory of one cold start; times in seconds."""

    whole: float
    """From the start of the process."""
    work: float
    """From the first enqueued job."""
    by_kind: Counter[str]
    """The time that all workers spent on each kind; two workers run at once."""
    memory: Memory


def measure(stage: Stage) -> Iterator[Result]:
    """Alternate cold starts with the bare passes that are their floor."""
    stage.end_daemon()
    starts, passes = [], []
    values: dict[str, list[tuple[bytes, bytes]]] = {}
    for _ in range(stage.effort.rounds):
        starts.append(_start(stage))
        values = values or floors.values_by_kind(stage.webapp.cache)
        passes.append(floors.cold(stage.servers, values))
    floor = statistics.median(sum(map(sum, each.values())) for each in passes)
    yield Result(
        NAME,
        "everything, from the first job",
        statistics.median(each.work for each in starts),
        "s",
        floor,
        stage.aim(M=[Aim(10), Aim(3, of_ratio=True)], L=Aim(60)),
    )
    yield Result(
        NAME, "with the start of the process", statistics.median(each.whole for each in starts), "s"
    )
    for kind in floors.KINDS:
        yield Result(
            NAME,
            f"worker time, {kind}",
            statistics.median(each.by_kind[kind] for each in starts),
            "s",
            statistics.median(sum(each[kind]) for each in passes),
        )
    yield Result(NAME, "daemon, peak", max(each.memory.peak for each in starts), "MB")


def _start(stage: Stage) -> ColdStart:
    """Start a daemon with an empty Redis, and wait until it has computed everything."""
    cache = stage.webapp.cache
    cache.flushall()
    began = perf_counter()
    daemon = stage.start()
    try:
        wait(lambda: bool(cache.exists(keys.CLOCK)), "the first job")
        enqueued = perf_counter()
        wait(stage.is_filled, "the cold start")
        done = perf_counter()
        memory = daemon.memory()
    finally:
        daemon.stop()
    return ColdStart(done - began, done - enqueued, daemon.time_by_kind(), memory)
