"""Cold start against its floor: `python -m benchmarks.cold_start [--scale small|medium|large]`.

The floor is one bare pass of the same aggregation in psql for each kind of statistic, with the
transfer of its rows. Both are run in turn, on the same servers, and the ratio of their medians is
the result.
"""

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

import redis

from statsd import binaries, embedded, keys, sample
from statsd.refresh import Priority
from statsd.statistics import CALCULATORS

FLOORS = {
    calculator.refresh.kind: Path(__file__).parent / f"floor_{calculator.refresh.kind}.sql"
    for calculator in CALCULATORS
}
SCALES = {"small": sample.SMALL, "medium": sample.MEDIUM, "large": sample.LARGE}
DEADLINE = 300.0  # seconds for one cold start


class ColdStart(NamedTuple):
    """What one cold start took."""

    whole: float
    """Seconds from the start of the process."""
    work: float
    """Seconds from the first mark set."""
    memory: float
    """The daemon's largest resident set, MB."""


def floor(servers: embedded.Servers) -> dict[str, float]:
    """Return the seconds of one bare pass in psql, by kind of statistic."""
    psql = binaries.find_postgres().with_name("psql")
    seconds = {}
    for kind, script in FLOORS.items():
        began = monotonic()
        command = [str(psql), "-q", "-o", os.devnull, "-f", str(script), servers.database_url]
        subprocess.run(command, check=True)
        seconds[kind] = monotonic() - began
    return seconds


def cold_start(servers: embedded.Servers, dojos: int) -> ColdStart:
    """Start a daemon on an empty cache; return when everything is in it."""
    own = {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
    with redis.Redis.from_url(servers.redis_url) as cache:
        cache.flushall()
        began = monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "statsd", "run"], env=os.environ | own, stdout=subprocess.DEVNULL
        )
        try:
            while not cache.exists(f"{keys.INTERNAL}clock"):
                sleep(0.002)
            marked = monotonic()
            while _something_is_missing(cache, dojos):
                if monotonic() - began > DEADLINE:
                    raise TimeoutError(f"no cold start within {DEADLINE:.0f} s")
                sleep(0.002)
            done = monotonic()
            return ColdStart(done - began, done - marked, _memory(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _something_is_missing(cache: "redis.Redis", dojos: int) -> bool:
    """Whether less is cached than any kind has dojos, or more is owed than in idle time."""
    owed = (cache.zcard(keys.due(priority)) for priority in Priority if priority < Priority.IDLE)
    return cache.hlen(keys.HOLDINGS) < dojos or any(owed)


def _memory(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/{pid}/status tells no VmHWM")


def main() -> None:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="medium")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with embedded.servers() as servers:
        asyncio.run(sample.create_tables(servers.database_url))
        loaded = asyncio.run(sample.load(servers.database_url, SCALES[options.scale]))
        print(f"{loaded.dojos} dojos, {loaded.users} users, {loaded.solves} solves")
        floor(servers)  # fills the buffers, for both
        rounds = [
            (floor(servers), cold_start(servers, loaded.dojos)) for _ in range(options.rounds)
        ]
    for kind in FLOORS:
        bare = statistics.median(seconds[kind] for seconds, _ in rounds)
        print(f"floor, {kind:<20}    {bare:6.2f} s")
    bare = statistics.median(sum(seconds.values()) for seconds, _ in rounds)
    work = statistics.median(start.work for _, start in rounds)
    whole = statistics.median(start.whole for _, start in rounds)
    print(f"floor, all bare passes in psql {bare:6.2f} s")
    print(f"cold start, from the first mark {work:5.2f} s   {work / bare:.2f} x the floor")
    print(f"cold start, with the process    {whole:5.2f} s   {whole / bare:.2f} x the floor")
    print(f"daemon, largest resident set    {max(start.memory for _, start in rounds):5.0f} MB")


if __name__ == "__main__":
    main()
