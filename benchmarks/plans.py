"""Query plans of a daemon's statements: `python -m benchmarks.plans [--scale M] [--shape scatter]`.

A daemon makes a cold start and answers some solves, while PostgreSQL logs the plan of each
statement with its times (auto_explain). Of each statement the slowest plan is shown.
"""

import argparse
import re
from pathlib import Path
from typing import NamedTuple

import psycopg2

from benchmarks import samples, stage
from benchmarks.waiting import wait
from statsd.dev.sample.rows import Shape

SOLVES = 20  # one after another
SETTINGS = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_parameter_max_length": "0",
}
ENTRY = re.compile(r"duration: ([\d.]+) ms  plan:\n((?:\t.*\n)+)")
QUERY = re.compile(r"\tQuery Text: (.*(?:\n\t.*)*?)\n(\t.*  \(cost=)")


class Logged(NamedTuple):
    """A statement in the log of PostgreSQL."""

    milliseconds: float
    statement: str
    plan: str


def logged(log: str) -> list[Logged]:
    """Return the statements in a log, with their plans."""
    found = []
    for entry in ENTRY.finditer(log):
        text = entry[2]
        query = QUERY.search(text)
        if query:
            plan = text[query.start(2) :].replace("\n\t", "\n").strip()
            found.append(Logged(float(entry[1]), " ".join(query[1].split()), plan))
    return found


def slowest(found: list[Logged]) -> list[tuple[int, Logged]]:
    """Return each statement's number and slowest execution, the slowest statement first."""
    by_statement: dict[str, list[Logged]] = {}
    for each in found:
        by_statement.setdefault(each.statement, []).append(each)
    worst = [(len(own), max(own)) for own in by_statement.values()]
    return sorted(worst, key=lambda each: each[1].milliseconds, reverse=True)


def _log(own: stage.Stage) -> str:
    """Run a daemon for a cold start and some solves; return PostgreSQL's log of that."""
    for name, value in SETTINGS.items():
        own.webapp.database.cursor().execute(f"ALTER SYSTEM SET {name} = {value!r}")
    own.webapp.rows("SELECT pg_reload_conf()")
    log: Path = own.servers.postgres.log
    solves = own.webapp.likely_pairs(SOLVES)
    begin = log.stat().st_size
    daemon = own.start()
    try:
        wait(own.filling().is_complete, "the cold start", interval=stage.FILL_INTERVAL)
        for each in solves:
            own.webapp.commit([each])
            own.webapp.publish([each])
            wait(own.webapp.is_exported, "the exports")
    finally:
        daemon.stop()
    return log.read_bytes()[begin:].decode()


def main() -> None:
    """Print the plans."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plans",
        description="Print the plans of a daemon's statements, from PostgreSQL's auto_explain.",
    )
    parser.add_argument("--scale", choices=samples.SCALES, default="M", help="by default M")
    parser.add_argument(
        "--shape", choices=[*Shape], default=Shape.SCATTER, help="by default scatter"
    )
    options = parser.parse_args()
    with stage.at(samples.Sample(options.scale, Shape(options.shape)), stage.FULL) as own:
        try:
            log = _log(own)
        except psycopg2.Error as error:
            raise SystemExit(f"PostgreSQL cannot log plans: {error}") from None
    for count, each in slowest(logged(log)):
        print(f"\n--- {each.milliseconds:,.1f} ms, the slowest of {count}: {each.statement}")
        print(each.plan, flush=True)


if __name__ == "__main__":
    main()
