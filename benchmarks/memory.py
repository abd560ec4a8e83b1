"""The memory of the daemon after the measures, and that of Redis by kind of key."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.result import Aim, Result
from benchmarks.stage import Stage, memory_of
from statsd.dev.sample.rows import Shape

NAME = "memory"
IMPORTS = "import asyncio, uvloop, statsd.daemon, statsd.cli.app; print(flush=True); input()"
SHOWN = 8  # kinds of keys, the largest
MB = 2**20


def measure(stage: Stage) -> Iterator[Result]:
    """Measure the shared daemon, and Redis."""
    found = stage.daemon().memory()
    floor = _imported()
    yield Result(NAME, "daemon, resident", found.resident, "MB", floor)
    yield Result(NAME, "daemon, peak", found.peak, "MB", floor, peak_aims(stage))
    cache = stage.webapp.cache
    used: Any = cache.info("memory")
    yield Result(NAME, "Redis", used["used_memory"] / MB, "MB")
    for kind, size in _by_kind(stage).most_common(SHOWN):
        yield Result(NAME, f"Redis, {kind}", size / MB, "MB")


def peak_aims(stage: Stage) -> Sequence[Aim]:
    """Return the aims for the daemon's maximum."""
    is_giant = stage.sample.shape == Shape.GIANT
    return stage.aim(M=Aim(200 if is_giant else 150), L=Aim(250))


def _imported() -> float:
    """Return the resident set (MB) of an idle interpreter with the daemon's modules."""
    command = [sys.executable, "-c", IMPORTS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout  # noqa: S101 - a pipe, as given above
        process.stdout.readline()
        found = memory_of(process.pid).resident
        process.communicate(b"\n")
    return found


def _by_kind(stage: Stage) -> Counter[str]:
    """Return the bytes of all keys by kind, which is the beginning of their names."""
    found: Counter[str] = Counter()
    batch: list[bytes] = []

    def weigh() -> None:
        with stage.webapp.cache.pipeline(transaction=False) as pipeline:
            for key in batch:
                pipeline.memory_usage(key, samples=10)
            for key, size in zip(batch, pipeline.execute(), strict=True):
                found[_kind(key)] += size or 0
        batch.clear()

    for key in stage.webapp.cache.scan_iter(count=1000):
        batch.append(key)
        if len(batch) == 1000:  # noqa: PLR2004 - one pipeline
            weigh()
    weigh()
    return found


def _kind(key: bytes) -> str:
    first, *rest = key.decode(errors="replace").split(":")
    kind = ":".join([first, *rest[:1]])
    if kind == "stats:internal":
        return f"{kind}:{rest[1]}"
    return f"{kind}, as-of" if rest[-1:] == ["updated"] else kind
