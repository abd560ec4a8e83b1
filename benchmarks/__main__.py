"""All benchmarks, or some of them, with a table and JSON: `python -m benchmarks --help`."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
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
INTERRUPTED = 130  # the exit code, as shells have it
EPILOG = """measures, in this order:
  cold-start  everything into an empty cache, whole and by kind
  idle        one solve after another: commit to live board, dojo stats, exported scoreboard
  burst       10,000 solves at once, over all dojos and in the busiest one
  rate        the highest rate of solves at which lag stays flat
  pressure    solves for a while, half of them in one dojo: how soon quiet dojos have theirs
  awards      belts and emojis, one after another and many at once
  reads       a page of a long scoreboard by the reader, beside loading all of it
  memory      the daemon after all of this, and Redis by kind of key
  nothing     events that change nothing known: reading, decoding, acknowledging
  daemons     a burst over all dojos with 1, 2 and 4 daemons

In the end every value is compared with the full calculation. Exit codes: 0 all are right,
1 a value is wrong (whatever the times are) or something failed, 2 wrong arguments.
docs/performance.md says what each figure means."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure, each figure beside its floor. Servers and data are made for it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--scale",
        nargs="+",
        choices=samples.SCALES,
        metavar="SCALE",
        help="S: 20 dojos, 500 users, 20,000 solves; M (the default): 200, 20,000, 1,000,000; "
        "L: 500, 60,000, 5,000,000; of several, also how much more the next one takes",
    )
    parser.add_argument(
        "--only", nargs="+", choices=MEASURES, metavar="MEASURE", help="no more than these"
    )
    parser.add_argument(
        "--quick", action="store_true", help="little of each, at S, about a minute; for CI"
    )
    parser.add_argument(
        "--with-index", action="store_true", help="with the optional index of docs/performance.md"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help=f"where the JSON goes; else a file named by the date in {samples.folder()}, where "
        "samples are kept for a day, too",
    )
    options = parser.parse_args()
    if options.quick and options.scale:
        parser.error("--quick is at S: leave --scale out")
    if options.json and options.json.is_dir():
        parser.error(f"--json: {options.json} is a folder; name a file")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.parent}")
    options.scale = ["S"] if options.quick else [*dict.fromkeys(options.scale or ["M"])]
    options.only = [*dict.fromkeys(options.only or MEASURES)]
    return options


class Measured(NamedTuple):
    """What was found at one scale."""

    scale: str
    size: Mapping[str, int]
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
        for name in options.only:
            began = perf_counter()
            results += MEASURES[name](own)
            say(f"{scale}: {name} took {perf_counter() - began:.0f} s")
        if not own.verdicts:
            own.daemon()  # so that something is compared
        own.end_daemon()
    return Measured(
        scale,
        own.size,
        results,
        sum(each.compared for each in own.verdicts),
        [name for each in own.verdicts for name in each.wrong],
    )


def main() -> int:
    """Measure, and tell; return the exit code."""
    options = _options()
    described = machine.described()
    found: list[Measured] = []
    for scale in options.scale:
        own = _measured(scale, options)
        found.append(own)
        print(f"\nScale {scale}\n\n{table(own.results)}\n")
        print(f"Compared: {own.compared:,} values, wrong: {len(own.wrong)}.", flush=True)
        for name in own.wrong:
            print(f"  wrong: {name}")
    if grown := growth([(each.scale, each.results) for each in found]):
        print(f"\n{grown}")
    report: dict[str, Any] = described | {
        "quick": options.quick,
        "with_index": options.with_index,
        "only": options.only,
        "scales": {
            each.scale: {
                "size": each.size,
                "results": [result.as_json() for result in each.results],
                "compared": each.compared,
                "wrong": each.wrong,
            }
            for each in found
        },
    }
    path = options.json or samples.folder() / f"{described['date'].replace(':', '')}.json"
    path.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    say(f"JSON: {path}")
    return 0 if all(each.is_right for each in found) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
