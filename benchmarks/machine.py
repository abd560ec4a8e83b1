"""The machine and the versions of a benchmark run."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import statsd
from statsd.dev import binaries

PACKAGES = ("asyncpg", "hiredis", "msgspec", "orjson", "redis", "SQLAlchemy", "uvloop")


def described() -> dict[str, Any]:
    """Return processor, memory, versions and commit, for the JSON."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "statsd": statsd.__version__,
        "commit": _commit(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(_memory() / 2**30, 1),
        "python": platform.python_version(),
        "postgresql": version(binaries.find_postgres()),
        "redis": version(binaries.find_redis()),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def version(program: Path) -> str:
    """Return the version text that a server program prints."""
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _commit() -> str:
    """Return the commit of the checkout; empty where there is none."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
