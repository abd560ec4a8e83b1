"""Single solves on an idle system: the time until each value has the solve."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from time import perf_counter, sleep, time
from typing import Any

from benchmarks import floors
from benchmarks.result import Aim, Result, say
from benchmarks.stage import Stage
from benchmarks.waiting import wait
from benchmarks.webapp import Solve
from statsd import keys

NAME = "idle"
PAUSE = 0.05  # seconds without any work
AIMS = {50: Aim(5), 99: Aim(20)}  # ms, by percentile
# The round trips from a solve to each value. Redis: publish, read, accept (the lease is sent right
# behind it and not counted), and one complete for each answer. PostgreSQL: one statement to look up
# the solve, and one for each answer.
ROUND_TRIPS = {
    "board": floors.RoundTrips(of_redis=4, of_postgresql=2),
    "dojo stats": floors.RoundTrips(of_redis=5, of_postgresql=3),
}


def measure(stage: Stage) -> Iterator[Result]:
    """Commit single solves; measure until board, statistics and array have each."""
    stage.daemon()
    references = stage.webapp.references()
    measured: dict[str, list[float]] = defaultdict(list)
    bare: dict[str, list[float]] = defaultdict(list)
    timer = floors.RoundTripTimer(stage.servers)
    solves = stage.webapp.open_pairs(stage.effort.solves)
    for number, solve in enumerate(solves, start=1):
        for value, seconds in _solved(stage, solve, references[solve.dojo_id]).items():
            measured[value].append(seconds)
        wait(stage.webapp.is_exported, "the exports")
        for value, trips in ROUND_TRIPS.items():
            sleep(PAUSE)  # so that processes and cores sleep, as before a solve
            bare[value].append(timer.measure(trips))
        sleep(PAUSE)
        if number % 100 == 0:
            say(f"idle: {number} of {len(solves)} solves")
    timer.close()
    for value, found in measured.items():
        floor = bare.get(value)
        for part, aim in AIMS.items():
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
    """Commit and publish a solve; return the seconds until each value has it."""
    webapp = stage.webapp
    state: Any = webapp.cache.get(keys.boards(solve.dojo_id))
    board = f"{keys.generation(solve.dojo_id, int(state))}:{keys.DOJO}:0"
    array = keys.scoreboard(solve.dojo_id)
    stats, as_of = keys.dojo_stats(reference), keys.updated(array)
    on_board = webapp.reader.get_solves(solve.dojo_id, solve.user_id)
    in_stats = webapp.solves_in_stats(reference)
    with webapp.changes(board, stats, as_of) as next_change:
        webapp.commit([solve])
        began, moment = perf_counter(), time()
        webapp.publish([solve])

        def seconds_until(key: str, has_solve: Callable[[], bool]) -> float:
            changed = next_change(key)
            while not has_solve():
                changed = next_change(key)
            return changed - began

        return {
            "board": seconds_until(
                board,
                lambda: webapp.reader.get_solves(solve.dojo_id, solve.user_id) > on_board,
            ),
            "dojo stats": seconds_until(
                stats, lambda: webapp.solves_in_stats(reference) > in_stats
            ),
            "exported scoreboard": seconds_until(as_of, lambda: webapp.as_of(array) >= moment),
        }


def percentile(seconds: list[float], part: int) -> float:
    """Return a percentile of durations in seconds, in milliseconds."""
    return statistics.quantiles(seconds, n=100, method="inclusive")[part - 1] * 1000
