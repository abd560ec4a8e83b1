"""The samples that are measured on, kept between runs in a cache folder outside the tree.

A sample ends at the moment it was made, and a day later its newest windows are empty: then it is
made anew.
"""

import asyncio
import hashlib
import os
import shutil
import time
from pathlib import Path

import statsd
from benchmarks import machine
from benchmarks.result import say
from statsd.dev import binaries, embedded
from statsd.dev.sample import load

SCALES = {"S": load.SMALL, "M": load.MEDIUM, "L": load.LARGE}
OLDEST = 86_400.0  # seconds
MADE_BY = ("dev/sample/load.py", "dev/sample/history.py", "dev/sample/rows.py", "schema.py")


def folder() -> Path:
    """Return the cache folder, by the convention of the XDG."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dojo-statsd" / "benchmarks"


def cluster(name: str) -> Path:
    """Return the data folder of a PostgreSQL with the sample of a scale: S, M or L."""
    kept = folder() / f"{name}-{_form()}"
    for old in folder().glob("?-*"):
        if time.time() - old.stat().st_mtime > OLDEST:
            shutil.rmtree(old)
    if kept.exists():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    fresh = kept.with_suffix(f".{os.getpid()}")
    with embedded.postgres() as server:
        asyncio.run(_fill(server.url, name))
        server.stop()
        embedded.copy_cluster(server.data, fresh)
    os.utime(fresh)
    try:
        fresh.rename(kept)
    except OSError:  # another run was quicker
        shutil.rmtree(fresh)
    say(f"sample {name}: made in {time.monotonic() - began:.0f} s, kept in {kept}")
    return kept


async def _fill(database_url: str, name: str) -> None:
    shown = 0

    def progress(done: int, total: int) -> None:
        nonlocal shown
        tenth = 10 * done // total
        if tenth > shown:
            shown = tenth
            say(f"sample {name}: {done:,} of {total:,} solves")

    await load.create_tables(database_url)
    await load.load(database_url, SCALES[name], progress=progress)


def _form() -> str:
    """Return a name for what a sample depends on: the code that makes it, and the server."""
    sources = [(Path(statsd.__file__).parent / name).read_bytes() for name in MADE_BY]
    server = machine.version(binaries.find_postgres()).encode()
    return hashlib.blake2b(b"".join([*sources, server]), digest_size=6).hexdigest()
