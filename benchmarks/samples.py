"""Sample databases, kept between runs in a cache folder outside the checkout.

A sample ends at the moment of its creation. A day later its newest windows are empty, so it is
created anew.
"""

import asyncio
import hashlib
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import statsd
from benchmarks import machine
from benchmarks.result import say
from statsd.dev import binaries, embedded
from statsd.dev.sample import load
from statsd.dev.sample.rows import Shape

SCALES = {"S": load.SMALL, "M": load.MEDIUM, "L": load.LARGE}
MAX_AGE = 86_400.0  # seconds
SOURCES = ("dev/sample/load.py", "dev/sample/history.py", "dev/sample/rows.py", "schema.py")


class Sample(NamedTuple):
    """A scale (S, M or L) and a shape."""

    scale: str
    shape: Shape = Shape.WALK

    def __str__(self) -> str:
        return f"{self.scale} {self.shape}"


def folder() -> Path:
    """Return the cache folder, in `XDG_CACHE_HOME` or `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dojo-statsd" / "benchmarks"


def cluster(sample: Sample) -> Path:
    """Return the data folder of a PostgreSQL with a sample."""
    kept = folder() / f"{sample.scale}-{sample.shape}-{_digest()}"
    for old in folder().glob("?-*"):
        if time.time() - old.stat().st_mtime > MAX_AGE:
            shutil.rmtree(old)
    if kept.exists():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    fresh = kept.with_suffix(f".{os.getpid()}")
    with embedded.postgres() as server:
        asyncio.run(_fill(server.url, sample))
        server.stop()
        embedded.copy_cluster(server.data, fresh)
    os.utime(fresh)
    try:
        fresh.rename(kept)
    except OSError:  # another run has created it meanwhile
        shutil.rmtree(fresh)
    say(f"sample {sample}: created in {time.monotonic() - began:.0f} s, kept in {kept}")
    return kept


async def _fill(database_url: str, sample: Sample) -> None:
    shown = 0

    def progress(done: int, total: int) -> None:
        nonlocal shown
        tenth = 10 * done // total
        if tenth > shown:
            shown = tenth
            say(f"sample {sample}: {done:,} of {total:,} solves")

    await load.create_tables(database_url)
    scale = replace(SCALES[sample.scale], shape=sample.shape)
    await load.load(database_url, scale, progress=progress)


def _digest() -> str:
    """Return a digest of the code that creates samples and of the server's version."""
    sources = [(Path(statsd.__file__).parent / name).read_bytes() for name in SOURCES]
    server = machine.version(binaries.find_postgres()).encode()
    return hashlib.blake2b(b"".join([*sources, server]), digest_size=6).hexdigest()
