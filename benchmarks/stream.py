"""What the daemon takes in: events that change nothing, and the rate that it keeps up with."""

from collections.abc import Iterator
from time import perf_counter

from benchmarks import floors
from benchmarks.result import Aim, Result, say
from benchmarks.stage import Stage
from benchmarks.waiting import wait
from statsd import keys
from statsd.events import ChallengeSolve, encode

NOBODIES = 100
FIRST_UNKNOWN = 2_000_000_000
LATE = 1.05  # times what was meant: from then on it is the load that does not keep up
COMPLETED = 0.5  # seconds in which all is answered after the last event, where lag stays flat


def measure_nothing(stage: Stage) -> Iterator[Result]:
    """Let a daemon take in events of unknown users and challenges."""
    stage.daemon()
    stage.end_daemon()  # events lie there before the next one begins
    cache = stage.webapp.cache
    data = [
        encode(ChallengeSolve(FIRST_UNKNOWN + number % NOBODIES, FIRST_UNKNOWN))
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
        wait(stage.webapp.is_at_rest, "rest")
    finally:
        daemon.stop()
    yield Result(
        "nothing",
        "events that change nothing known",
        rate,
        "events/s",
        floor,
        stage.aim(M=Aim(0.25, at_least=True, of_ratio=True)),
        f"{len(data):,} events",
    )


def measure_rate(stage: Stage) -> Iterator[Result]:
    """Find the rate of solves at which lag stays flat: the last of growing ones."""
    stage.daemon()
    kept, why = 0.0, "no higher one was tried"
    for rate in stage.effort.rates:
        solves = stage.webapp.open_pairs(int(rate * stage.effort.seconds))
        began = perf_counter()
        stage.webapp.at_a_rate(solves, stage.effort.seconds)
        spent = perf_counter() - began
        lag = wait(stage.webapp.is_answered, "answered")
        say(f"rate: {len(solves) / spent:,.0f} events/s, {lag:.2f} s of lag after the last")
        wait(stage.webapp.is_at_rest, "rest")
        if spent > LATE * stage.effort.seconds:
            why = f"of {rate:,} the load wrote {len(solves) / spent:,.0f}"
            break
        if lag > COMPLETED:
            why = f"at {rate:,} lag was {lag:.1f} s after {stage.effort.seconds:.0f} s"
            break
        kept = len(solves) / spent
    yield Result("rate", "at which lag stays flat", kept, "events/s", note=why)
