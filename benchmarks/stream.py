"""The throughput of the consumer, and the highest rate of solves with flat lag."""

from collections.abc import Iterator
from time import perf_counter

from benchmarks import floors
from benchmarks.result import Aim, Result, say
from benchmarks.stage import Stage
from benchmarks.waiting import wait
from statsd import keys
from statsd.events import ChallengeSolve, encode

UNKNOWN_USERS = 100
FIRST_UNKNOWN = 2_000_000_000
MAX_OVERRUN = 1.05  # of the planned duration; beyond it the load itself is too slow
MAX_LAG = 0.5  # seconds from the last event to the last answer, if lag stays flat


def measure_nothing(stage: Stage) -> Iterator[Result]:
    """Measure how fast a daemon accepts events of unknown users and challenges."""
    stage.daemon()
    stage.end_daemon()  # the events are in the stream before the next daemon starts
    cache = stage.webapp.cache
    data = [
        encode(ChallengeSolve(FIRST_UNKNOWN + number % UNKNOWN_USERS, FIRST_UNKNOWN))
        for number in range(stage.effort.nothing)
    ]
    floor = floors.stream_rate(stage.servers, data)
    with cache.pipeline(transaction=False) as pipeline:
        for each in data:
            pipeline.xadd(keys.STREAM, {"data": each})
        pipeline.execute()
    daemon = stage.start(SKIP_COLD_START="1", STATSD_LOG_LEVEL="WARNING")
    try:
        wait(lambda: cache.xlen(keys.STREAM) < len(data), "the first batch")
        first, began = cache.xlen(keys.STREAM), perf_counter()
        wait(lambda: not cache.xlen(keys.STREAM), "the last batch")
        rate = first / (perf_counter() - began)
        wait(stage.webapp.is_idle, "an empty queue")
    finally:
        daemon.stop()
    yield Result(
        "nothing",
        "events of unknown users and challenges",
        rate,
        "events/s",
        floor,
        stage.aim(M=Aim(0.25, at_least=True, of_ratio=True)),
        f"{len(data):,} events",
    )


def measure_rate(stage: Stage) -> Iterator[Result]:
    """Find the highest rate of solves at which lag stays flat, by trying growing rates."""
    stage.daemon()
    highest, limit = 0.0, "no higher rate was tried"
    for rate in stage.effort.rates:
        solves = stage.webapp.open_pairs(int(rate * stage.effort.seconds))
        began = perf_counter()
        stage.webapp.at_a_rate(solves, stage.effort.seconds)
        spent = perf_counter() - began
        lag = wait(stage.webapp.is_answered, "the answers")
        say(f"rate: {len(solves) / spent:,.0f} events/s, {lag:.2f} s of lag after the last")
        wait(stage.webapp.is_idle, "an empty queue")
        if spent > MAX_OVERRUN * stage.effort.seconds:
            limit = f"of {rate:,} the load wrote {len(solves) / spent:,.0f}"
            break
        if lag > MAX_LAG:
            limit = f"at {rate:,} lag was {lag:.1f} s after {stage.effort.seconds:.0f} s"
            break
        highest = len(solves) / spent
    yield Result("rate", "highest with flat lag", highest, "events/s", note=limit)
