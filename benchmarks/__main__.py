"""Run all benchmarks or some of them, print a table, write JSON: `python -m benchmarks`."""

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
    cost,
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
from benchmarks.samples import Sample
from statsd.dev.sample.rows import Shape

MEASURES: dict[str, Callable[[stage.Stage], Iterator[Result]]] = {
    "cold-start": cold_start.measure,
    "idle": idle.measure,
    "cost": cost.measure,
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
INTERRUPTED = 130  # the exit code of shells for Ctrl-C
EPILOG = """measures, in this order:
  cold-start  the whole cache from empty: total time, and worker time by kind
  idle        single solves: from commit to live board, dojo stats, exported scoreboard
  cost        processor time of one solve until all is quiet; lag of arrays and dojo stats at
              0.5, 5 and 50 solves a second, and with the next solve at an empty stream
  burst       5,000 solves at once, over all dojos and in the busiest one
  rate        the highest rate of solves at which lag stays flat
  pressure    a load of solves, half of them in one dojo: latency of the quiet dojos
  awards      belts and emojis, one after another and many at once
  reads       a page of a long scoreboard by the reader, beside loading the whole array
  memory      the daemon after the measures above, and Redis by kind of key
  nothing     events of unknown users and challenges: reading, decoding, acknowledging
  daemons     a burst over all dojos with 1, 2 and 4 daemons

Every measure runs on each shape of the sample: walk (users walk one dojo after another), scatter
(they solve here and there, and dojos borrow challenges), giant (nine of ten are in one dojo).

Afterwards every value is compared with the full calculation. Exit codes: 0 all values are
right, 1 a value is wrong (whatever the times are) or a measure failed, 2 wrong arguments.
docs/performance.md explains each figure."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure, each figure beside its floor. Starts its own servers, with own data.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--scale",
        nargs="+",
        choices=samples.SCALES,
        metavar="SCALE",
        help="S: 20 dojos, 500 users, 20,000 solves; M (the default): 200, 20,000, 1,000,000; "
        "L: 500, 60,000, 5,000,000; with several, also the growth from each to the next",
    )
    parser.add_argument(
        "--shape",
        nargs="+",
        choices=[*Shape],
        metavar="SHAPE",
        help="walk, scatter, giant; by default all three, with --quick only scatter",
    )
    parser.add_argument(
        "--only", nargs="+", choices=MEASURES, metavar="MEASURE", help="only these measures"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a short run of each measure at S, a minute or two for each shape; for CI",
    )
    parser.add_argument(
        "--with-index", action="store_true", help="add the optional index of docs/performance.md"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="the JSON file; by default one named after the date in "
        f"{samples.folder()}, which also keeps samples for a day",
    )
    return _checked(parser, parser.parse_args())


def _checked(parser: argparse.ArgumentParser, options: argparse.Namespace) -> argparse.Namespace:
    """Return the options with their defaults; end the program where they do not go together."""
    if options.quick and options.scale:
        parser.error("--quick always uses scale S: omit --scale")
    if options.json and options.json.is_dir():
        parser.error(f"--json: {options.json} is a folder; give a file name")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json: the folder {options.json.parent} does not exist")
    options.scale = ["S"] if options.quick else [*dict.fromkeys(options.scale or ["M"])]
    shapes = options.shape or ([Shape.SCATTER] if options.quick else Shape)
    options.shape = [*dict.fromkeys(map(Shape, shapes))]
    options.only = [*dict.fromkeys(options.only or MEASURES)]
    return options


class Measured(NamedTuple):
    """The results for one sample."""

    sample: Sample
    size: Mapping[str, int]
    results: list[Result]
    compared: int
    wrong: list[str]

    @property
    def is_right(self) -> bool:
        """Whether values were compared, and none of them was wrong."""
        return self.compared > 0 and not self.wrong


def _measured(sample: Sample, options: argparse.Namespace) -> Measured:
    effort = stage.QUICK if options.quick else stage.FULL
    results: list[Result] = []
    index = INDEX if options.with_index else ""
    with stage.at(sample, effort, index=index) as current:
        say(", ".join(f"{count:,} {table}" for table, count in current.size.items()))
        for name in options.only:
            began = perf_counter()
            results += MEASURES[name](current)
            say(f"{sample}: {name} took {perf_counter() - began:.0f} s")
        if not current.verdicts:
            current.daemon()  # its end compares the values
        current.end_daemon()
    return Measured(
        sample,
        current.size,
        results,
        sum(each.compared for each in current.verdicts),
        [name for each in current.verdicts for name in each.wrong],
    )


def main() -> int:
    """Measure, print tables, write the JSON; return the exit code."""
    options = _options()
    described = machine.described()
    found: list[Measured] = []
    for sample in (Sample(scale, shape) for shape in options.shape for scale in options.scale):
        measured = _measured(sample, options)
        found.append(measured)
        print(f"\nScale {sample.scale}, shape {sample.shape}\n\n{table(measured.results)}\n")
        print(f"Compared: {measured.compared:,} values, wrong: {len(measured.wrong)}.", flush=True)
        for name in measured.wrong:
            print(f"  wrong: {name}")
    for shape in options.shape:
        of_shape = [each for each in found if each.sample.shape == shape]
        if grown := growth([(str(each.sample), each.results) for each in of_shape]):
            print(f"\n{grown}")
    report: dict[str, Any] = described | {
        "quick": options.quick,
        "with_index": options.with_index,
        "only": options.only,
        "samples": {
            str(each.sample): {
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
