"""One solve after another, with nothing else to do: how soon each value has it."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from time import perf_counter, sleep, time

from benchmarks import floors
from benchmarks.result import Aim, Result, say
from benchmarks.stage import Stage
from benchmarks.waiting import wait
from benchmarks.webapp import Solve
from statsd import keys

NAME = "idle"
PAUSE = 0.05  # seconds in which nothing happens
SOON = {50: Aim(5), 99: Aim(20)}  # ms, by percentile
# What a solve takes to the value. Redis: publish, read, accept (with the take behind it, as if it
# were nothing), and then settle for each of the answers. PostgreSQL: what the solve touches, and
# then a statement for each answer.
WAYS = {
    "board": floors.Way(of_redis=4, of_postgresql=2),
    "dojo stats": floors.Way(of_redis=5, of_postgresql=3),
}


def measure(stage: Stage) -> Iterator[Result]:
    """Solve; note the time from the commit to board, statistics and array."""
    stage.daemon()
    references = stage.webapp.references()
    leased: dict[str, list[float]] = defaultdict(list)
    bare: dict[str, list[float]] = defaultdict(list)
    trips = floors.Trips(stage.servers)
    solves = stage.webapp.open_pairs(stage.effort.solves)
    for number, solve in enumerate(solves, start=1):
        for value, seconds in _solved(stage, solve, references[solve.dojo_id]).items():
            leased[value].append(seconds)
        wait(stage.webapp.is_exported, "rest")
        for value, way in WAYS.items():
            sleep(PAUSE)  # so that all has to be woken, as it has for a solve
            bare[value].append(trips.make(way))
        sleep(PAUSE)
        if number % 100 == 0:
            say(f"idle: {number} of {len(solves)} solves")
    trips.close()
    for value, found in leased.items():
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
    board, array = f"{keys.boards(solve.dojo_id)}:{keys.DOJO}:0", keys.scoreboard(solve.dojo_id)
    stats, as_of = keys.dojo_stats(reference), keys.updated(array)
    on_board = webapp.solves_on_board(solve.dojo_id, solve.user_id)
    in_stats = webapp.solves_in_stats(reference)
    with webapp.changes(board, stats, as_of) as next_change:
        webapp.commit([solve])
        began, moment = perf_counter(), time()
        webapp.publish([solve])

        def seconds_until(key: str, has_it: Callable[[], bool]) -> float:
            changed = next_change(key)
            while not has_it():
                changed = next_change(key)
            return changed - began

        return {
            "board": seconds_until(
                board, lambda: webapp.solves_on_board(solve.dojo_id, solve.user_id) > on_board
            ),
            "dojo stats": seconds_until(
                stats, lambda: webapp.solves_in_stats(reference) > in_stats
            ),
            "exported scoreboard": seconds_until(as_of, lambda: webapp.true_for(array) >= moment),
        }


def percentile(seconds: list[float], part: int) -> float:
    """Return a percentile, in milliseconds."""
    return statistics.quantiles(seconds, n=100, method="inclusive")[part - 1] * 1000
