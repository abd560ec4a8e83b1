"""What a solve costs: processor time until all is quiet, and the lag of values at several rates."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from time import perf_counter, sleep

from benchmarks import solve_floor
from benchmarks.arrivals import Arrivals, WriteCounter
from benchmarks.idle import percentile
from benchmarks.processor import Spent, spent
from benchmarks.result import Aim, Result, say
from benchmarks.stage import Daemon, Stage
from benchmarks.waiting import wait
from benchmarks.webapp import Solve
from statsd import keys

NAME = "cost"
INTERVAL = 2.0  # seconds from one solve to the next
POLL = 0.25  # seconds between two looks at the queue, which cost processor time themselves
MEASURED = 5.0  # solves a second whose arrival is measured; others are only load
FLOOR_ROUNDS = 10  # because the clock of processes ticks each 10 ms
ARRAY_AIMS = {50: Aim(150), 99: Aim(1000)}  # ms, by percentile
STATS_AIMS = {50: Aim(5), 99: Aim(20)}


def measure(stage: Stage) -> Iterator[Result]:
    """Measure single solves, then loads of solves."""
    daemon = stage.daemon()
    references = stage.webapp.references()
    solves = stage.webapp.likely_pairs(stage.effort.cost)
    touched = stage.webapp.touched(solves)
    half = INTERVAL * len(solves) / 2
    with WriteCounter(stage.servers.redis_url) as writes:
        before = _spent_idle(stage, daemon, half)
        idle_writes = +writes.counts
        writes.counts.clear()
        busy, seconds = _spent_on(stage, daemon, solves)
        share = seconds / (2 * half)
        idle_entries = 2 * share * writes.entries(idle_writes)
        entries = max(0.0, writes.entries(writes.counts) - idle_entries)
    # What an idle system uses drifts, so that half of it is measured before, and half after.
    idle = before.plus(_spent_idle(stage, daemon, half))
    own = busy.beyond(idle.times(share)).times(1 / len(solves))
    without, whole = solve_floor.measure(stage, solves, FLOOR_ROUNDS)
    yield from _costs(stage, own, without.spent, whole.spent, len(solves))
    for label, floor in (("without arrays", without), ("with arrays", whole)):
        yield Result(NAME, f"floor of one solve, {label}, wall time", floor.wall * 1000, "ms")
    for name, each in zip(Spent._fields, idle.times(1 / (INTERVAL * len(solves))), strict=True):
        yield Result(NAME, f"idle, {name}", each * 1000, "ms/s")
    yield Result(NAME, "dojos that a solve touches", touched, "dojos")
    yield Result(NAME, "array entries written for a solve", entries / len(solves), "entries")
    if entries > 0:
        per_entry = sum(own) * len(solves) / entries
        yield Result(NAME, "for each array entry written", per_entry * 1_000_000, "µs")
    for rate in stage.effort.cost_rates:
        yield from _lags(stage, rate, references)
    yield from _in_turn(stage, references)


def _costs(stage: Stage, own: Spent, without: Spent, whole: Spent, count: int) -> Iterator[Result]:
    yield Result(
        NAME,
        "one solve, all processes",
        sum(own) * 1000,
        "ms",
        sum(whole) * 1000,
        stage.aim(M=Aim(100)),
        f"of {count}, one each {INTERVAL:g} s",
    )
    for name, value, floor in zip(Spent._fields, own, whole, strict=True):
        yield Result(NAME, f"one solve, {name}", value * 1000, "ms", floor * 1000)
    yield Result(NAME, "floor of one solve without arrays", sum(without) * 1000, "ms")


def _spent_idle(stage: Stage, daemon: Daemon, seconds: float) -> Spent:
    """Return the time that the processes use without any solve."""
    wait(stage.webapp.is_idle, "an empty queue")
    before = spent(stage, daemon)
    sleep(seconds)
    return spent(stage, daemon).since(before)


def _spent_on(stage: Stage, daemon: Daemon, solves: Sequence[Solve]) -> tuple[Spent, float]:
    """Commit and publish solves; return time and duration until all is quiet."""
    before, began = spent(stage, daemon), perf_counter()
    for number, solve in enumerate(solves, start=1):
        stage.webapp.commit([solve])
        stage.webapp.publish([solve])
        sleep(max(0.0, began + number * INTERVAL - perf_counter()))
    wait(stage.webapp.is_idle, "an empty queue", interval=POLL)
    return spent(stage, daemon).since(before), perf_counter() - began


def _lags(stage: Stage, rate: float, references: dict[int, str]) -> Iterator[Result]:
    """Solve at a rate; measure from each commit until array and stats of a dojo have the solve."""
    seconds = stage.effort.cost_seconds
    stage.daemon()
    solves = stage.webapp.likely_pairs(max(2, round(rate * seconds)))
    measured = _once(solves)[:: max(1, math.ceil(rate / MEASURED))]
    with Arrivals(stage.servers.redis_url, measured, references) as arrivals:
        stage.webapp.at_a_rate(solves, seconds, arrivals.expect)
        _wait_for(stage, arrivals, f"{rate:g} solves/s")
    has_aims = rate <= 1 / INTERVAL
    yield from _arrived(stage, arrivals, f"at {rate:g} solves/s", has_aims=has_aims)


def _in_turn(stage: Stage, references: dict[int, str]) -> Iterator[Result]:
    """Publish each solve as soon as the stream is empty, while exports of others still run."""
    webapp = stage.webapp
    stage.daemon()
    measured = _once(webapp.likely_pairs(stage.effort.cost_in_turn))
    with Arrivals(stage.servers.redis_url, measured, references) as arrivals:
        for each in measured:
            wait(lambda: not webapp.cache.xlen(keys.STREAM), "an empty stream")
            webapp.solved([each], arrivals.expect)
        _wait_for(stage, arrivals, "in turn")
    yield from _arrived(stage, arrivals, "with the next solve at an empty stream", has_aims=True)


def _once(solves: Sequence[Solve]) -> list[Solve]:
    """Return the solves of users who have only one of them, whose arrival is unmistakable."""
    times = Counter(each.user_id for each in solves)
    return [each for each in solves if times[each.user_id] == 1]


def _wait_for(stage: Stage, arrivals: Arrivals, what: str) -> None:
    ended = perf_counter()
    wait(arrivals.is_over, "the arrays", interval=POLL)
    wait(stage.webapp.is_exported, "the exports", interval=POLL)
    say(f"cost: {what}, exports {perf_counter() - ended:.1f} s after the last solve")


def _arrived(stage: Stage, arrivals: Arrivals, when: str, *, has_aims: bool) -> Iterator[Result]:
    for value, found, aims in (
        ("scoreboard array", arrivals.arrays, ARRAY_AIMS),
        ("dojo stats", arrivals.stats, STATS_AIMS),
    ):
        for part, aim in aims.items():
            yield Result(
                NAME,
                f"{value} {when}, p{part}",
                percentile(found, part),
                "ms",
                aims=stage.aim(M=aim) if has_aims else (),
                note=f"of {len(found)}",
            )
