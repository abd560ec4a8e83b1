"""All benchmarks, or some of them, with a table and JSON: `python -m benchmarks --help`."""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import orjson

from benchmarks import (
    awards,
    burst,
    cold_start,
    idle,
    machine,
    memory,
    pressure,
    reads,
    samples,
    stage,
    stream,
)
from benchmarks.result import Result, growth, say, table

MEASURES: dict[str, Callable[[stage.Stage], Iterator[Result]]] = {
    "cold-start": cold_start.measure,
    "idle": idle.measure,
    "burst": burst.measure,
    "rate": stream.measure_rate,
    "pressure": pressure.measure,
    "awards": awards.measure,
    "reads": reads.measure,
    "memory": memory.measure,
    "nothing": stream.measure_nothing,
    "daemons": burst.measure_daemons,
}
INDEX = "optional_index"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure, each figure beside its floor. Servers and data are made for it.",
        epilog="The exit code is 1 where a value was wrong, whatever the times are.",
    )
    parser.add_argument(
        "--scale",
        nargs="+",
        choices=samples.SCALES,
        default=["M"],
        help="S: 20 dojos, 500 users, 20,000 solves; M (the default): 200, 20,000, 1,000,000; "
        "L: 500, 60,000, 5,000,000; several: growth is told, too",
    )
    parser.add_argument("--only", nargs="+", choices=MEASURES, help="measure no more than this")
    parser.add_argument("--quick", action="store_true", help="little of each at S, for CI")
    parser.add_argument(
        "--with-index", action="store_true", help="with the optional index of the documentation"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the JSON goes")
    return parser.parse_args()


class Measured(NamedTuple):
    """What was found at one scale."""

    scale: str
    results: list[Result]
    compared: int
    wrong: list[str]

    @property
    def is_right(self) -> bool:
        """Whether there was something to compare, and nothing was wrong."""
        return self.compared > 0 and not self.wrong


def _measured(scale: str, options: argparse.Namespace) -> Measured:
    effort = stage.QUICK if options.quick else stage.FULL
    results: list[Result] = []
    index = INDEX if options.with_index else ""
    with stage.at(scale, effort, index=index) as own:
        say(", ".join(f"{count:,} {table}" for table, count in own.size.items()))
        for name in options.only or MEASURES:
            began = perf_counter()
            results += MEASURES[name](own)
            say(f"{scale}: {name} took {perf_counter() - began:.0f} s")
        own.end_daemon()
    return Measured(
        scale,
        results,
        sum(each.compared for each in own.verdicts),
        [name for each in own.verdicts for name in each.wrong],
    )


def main() -> int:
    """Measure, and tell; return the exit code."""
    options = _options()
    described = machine.described()
    found: list[Measured] = []
    for scale in ["S"] if options.quick else options.scale:
        own = _measured(scale, options)
        found.append(own)
        print(f"\nScale {scale}\n\n{table(own.results)}\n")
        print(f"Compared: {own.compared:,} values, wrong: {len(own.wrong)}.", flush=True)
        for name in own.wrong:
            print(f"  wrong: {name}")
    if grown := growth([(each.scale, each.results) for each in found]):
        print(f"\n{grown}")
    report: dict[str, Any] = described | {
        "scales": {
            each.scale: {
                "results": [result.as_json() for result in each.results],
                "compared": each.compared,
                "wrong": each.wrong,
            }
            for each in found
        }
    }
    path = options.json or samples.folder() / f"{described['date'].replace(':', '')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    say(f"JSON: {path}")
    return 0 if all(each.is_right for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
