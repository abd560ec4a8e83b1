"""One solve after another, with nothing else to do: how soon each value has it."""

import statistics
from collections import defaultdict
from collections.abc import Iterator
from time import perf_counter, sleep, time

from benchmarks import floors
from benchmarks.result import Aim, Result, say
from benchmarks.stage import Stage
from benchmarks.webapp import Solve, wait
from statsd import keys

NAME = "idle"
PAUSE = 0.05  # seconds in which nothing happens
SOON = {50: Aim(5), 99: Aim(20)}  # ms, by percentile
# What a solve takes to the value. Redis: publish, read, accept, then take and settle for each of
# the answers, and the facts of the dojo. PostgreSQL: transactions of so many statements.
WAYS = {
    "board": floors.Way(of_redis=5, transactions=(2, 1)),
    "dojo stats": floors.Way(of_redis=8, transactions=(2, 1, 1)),
}


def measure(stage: Stage) -> Iterator[Result]:
    """Solve; note the time from the commit to board, statistics and array."""
    stage.daemon()
    references = stage.webapp.references()
    taken: dict[str, list[float]] = defaultdict(list)
    bare: dict[str, list[float]] = defaultdict(list)
    trips = floors.Trips(stage.servers)
    solves = stage.webapp.open_pairs(stage.effort.solves)
    for number, solve in enumerate(solves, start=1):
        for value, seconds in _solved(stage, solve, references[solve.dojo_id]).items():
            taken[value].append(seconds)
        wait(stage.webapp.is_exported, "rest")
        sleep(PAUSE)
        for value, way in WAYS.items():
            bare[value].append(trips.make(way))
        if number % 100 == 0:
            say(f"idle: {number} of {len(solves)} solves")
    trips.close()
    for value, found in taken.items():
        floor = bare.get(value)
        for part, aim in SOON.items():
            yield Result(
                NAME,
                f"commit to {value}, p{part}",
                percentile(found, part),
                "ms",
                percentile(floor, part) if floor else None,
                stage.aim(M=aim) if floor else (),
                f"of {len(found)}",
            )


def _solved(stage: Stage, solve: Solve, reference: str) -> dict[str, float]:
    """Return how many seconds it took from the commit until each value had a solve."""
    webapp = stage.webapp
    found = {}
    array = keys.scoreboard(solve.dojo_id)
    on_board = webapp.solves_on_board(solve.dojo_id, solve.user_id)
    in_stats = webapp.solves_in_stats(reference)
    with webapp.changes(
        f"{keys.boards(solve.dojo_id)}:{keys.DOJO}:0",
        keys.dojo_stats(reference),
        keys.updated(array),
    ) as next_change:
        webapp.commit([solve])
        began, moment = perf_counter(), time()
        webapp.publish([solve])
        while webapp.solves_on_board(solve.dojo_id, solve.user_id) == on_board:
            next_change()
        found["board"] = perf_counter() - began
        while webapp.solves_in_stats(reference) == in_stats:
            next_change()
        found["dojo stats"] = perf_counter() - began
        while webapp.true_for(array) < moment:
            next_change()
        found["exported scoreboard"] = perf_counter() - began
    return found


def percentile(seconds: list[float], part: int) -> float:
    """Return a percentile, in milliseconds."""
    return statistics.quantiles(seconds, n=100, method="inclusive")[part - 1] * 1000
