"""Bursts of solves: over all dojos, in a single dojo, and with several daemons."""

from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter

from benchmarks import floors
from benchmarks.result import Aim, Result
from benchmarks.stage import Stage
from benchmarks.waiting import wait
from benchmarks.webapp import Solve
from statsd.events import ChallengeSolve, encode

NAME = "burst"


def measure(stage: Stage) -> Iterator[Result]:
    """Commit solves, publish their events at once, and measure until the cache has them."""
    stage.daemon()
    floor = _floor(stage)
    yield from _burst(stage, "over all dojos", stage.webapp.open_pairs(stage.effort.burst), floor)
    pairs = stage.webapp.open_pairs(stage.effort.burst, dojo_id=stage.webapp.busiest())
    yield from _burst(stage, "in the busiest dojo", pairs, floor)


def measure_daemons(stage: Stage) -> Iterator[Result]:
    """Publish a burst over all dojos to one daemon and to several."""
    stage.end_daemon()
    floor = _floor(stage)
    for count in stage.effort.daemons:
        with stage.daemons(count):
            pairs = stage.webapp.open_pairs(stage.effort.burst)
            answered, *_ = _burst(stage, f"{count} running, a burst over all dojos", pairs, floor)
        yield replace(answered, measure="daemons", aims=())


def _floor(stage: Stage) -> float:
    event = encode(ChallengeSolve(1, 1))
    return floors.stream_rate(stage.servers, [event] * stage.effort.nothing)


def _burst(stage: Stage, where: str, solves: list[Solve], floor: float) -> Iterator[Result]:
    stage.webapp.commit(solves)
    began = perf_counter()
    stage.webapp.publish(solves)
    wait(stage.webapp.is_answered, "the answers")
    answered = perf_counter() - began
    exported = answered + wait(stage.webapp.is_exported, "the exports")
    note = f"{len(solves):,} solves"
    rate = len(solves) / answered
    aims = stage.aim(M=Aim(3000, at_least=True))
    yield Result(NAME, f"{where}, answered", rate, "events/s", floor, aims, note)
    yield Result(NAME, f"{where}, last export", exported, "s", aims=stage.aim(M=Aim(15)), note=note)
