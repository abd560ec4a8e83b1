"""What the daemon takes after all of this, and Redis by kind of key."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from benchmarks.result import Aim, Result
from benchmarks.stage import Stage, memory_of

NAME = "memory"
IMPORTS = "import asyncio, uvloop, statsd.daemon, statsd.cli; print(flush=True); input()"
TOLD = 8  # kinds of keys, those that take the most
MB = 2**20


def measure(stage: Stage) -> Iterator[Result]:
    """Look at the daemon that measures share, and at Redis."""
    found = stage.daemon().memory()
    floor = _imported()
    aims = stage.aim(M=Aim(150), L=Aim(250))
    yield Result(NAME, "daemon, resident", found.resident, "MB", floor, aims)
    yield Result(NAME, "daemon, peak", found.peak, "MB", floor)
    cache = stage.webapp.cache
    used: Any = cache.info("memory")
    yield Result(NAME, "Redis", used["used_memory"] / MB, "MB")
    for kind, size in _by_kind(stage).most_common(TOLD):
        yield Result(NAME, f"Redis, {kind}", size / MB, "MB")


def _imported() -> float:
    """Return the resident set of an interpreter that has the daemon's modules and does nothing."""
    command = [sys.executable, "-c", IMPORTS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout  # noqa: S101 - it was asked for
        process.stdout.readline()
        found = memory_of(process.pid).resident
        process.communicate(b"\n")
    return found


def _by_kind(stage: Stage) -> Counter[str]:
    """Return how many bytes the keys of each kind take: what their names begin with."""
    found: Counter[str] = Counter()
    some: list[bytes] = []

    def weigh() -> None:
        with stage.webapp.cache.pipeline(transaction=False) as pipeline:
            for key in some:
                pipeline.memory_usage(key, samples=10)
            for key, size in zip(some, pipeline.execute(), strict=True):
                found[_kind(key)] += size or 0
        some.clear()

    for key in stage.webapp.cache.scan_iter(count=1000):
        some.append(key)
        if len(some) == 1000:  # noqa: PLR2004 - one pipeline
            weigh()
    weigh()
    return found


def _kind(key: bytes) -> str:
    first, *rest = key.decode(errors="replace").split(":")
    kind = ":".join([first, *rest[:1]])
    if kind == "stats:internal":
        return f"{kind}:{rest[1]}"
    return f"{kind}, stamps" if rest[-1:] == ["updated"] else kind
