"""What `statsd demo` shows: a live table in a terminal, plain lines anywhere else."""

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import orjson
from redis.asyncio import Redis
from rich.console import Console, Group
from rich.control import strip_control_codes
from rich.live import Live
from rich.table import Table
from rich.text import Text

from statsd import keys

console = Console(highlight=False)

TABLE_INTERVAL = 0.25  # seconds between two pictures
LINE_INTERVAL = 2.0  # seconds between two lines
NAME_WIDTH = 32  # columns


@dataclass
class DemoProgress:
    """How many solves were committed, and how long those took that were seen."""

    began: float = field(default_factory=monotonic)
    committed: int = 0
    latencies: list[float] = field(default_factory=list)
    """Seconds from commit to cache."""

    def line(self) -> str:
        """Return the state in one line."""
        seen = f"{self.committed} solves committed, {len(self.latencies)} in the cache"
        return f"{seen}; {times(self.latencies)}" if self.latencies else seen

    def summarise(self, dojos: int, wrong: Sequence[str]) -> None:
        """Say how it went."""
        seconds = monotonic() - self.began
        say(
            f"\n{self.committed} solves committed in {seconds:.0f} s, "
            f"{len(self.latencies)} reached the cache, {self.committed - len(self.latencies)} lost"
        )
        if self.latencies:
            say(f"from commit to cache: {times(self.latencies)}")
        say(f"{dojos - len(wrong)} of {dojos} dojos equal a full calculation")


def times(latencies: Sequence[float]) -> str:
    """Return the median and the 99th percentile of some seconds, in milliseconds."""
    if len(latencies) == 1:
        middle = high = latencies[0]
    else:
        percentiles = statistics.quantiles(latencies, n=100, method="inclusive")
        middle, high = percentiles[49], percentiles[98]
    return f"median {middle * 1000:.1f} ms, 99th percentile {high * 1000:.1f} ms"


def say(text: str) -> None:
    """Print a line."""
    console.print(Text(text), soft_wrap=True)


async def show(progress: DemoProgress, cache: "Redis", names: Mapping[str, str]) -> None:
    """Show the progress until cancelled; `names` of dojos by reference id."""
    if not console.is_terminal:
        while True:
            await asyncio.sleep(LINE_INTERVAL)
            say(f"{monotonic() - progress.began:3.0f} s: {progress.line()}")
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(await _picture(progress, cache, names), refresh=True)
            await asyncio.sleep(TABLE_INTERVAL)


async def _picture(progress: DemoProgress, cache: "Redis", names: Mapping[str, str]) -> Group:
    values = await cache.mget([keys.dojo_stats(reference) for reference in names])
    table = Table("dojo", title="what a web page would show now", title_justify="left")
    for heading in ("solves", "hackers", "challenges", "newest solve"):
        table.add_column(heading, justify="right")
    stats = [
        (name, orjson.loads(raw)) for name, raw in zip(names.values(), values, strict=True) if raw
    ]
    for name, value in sorted(stats, key=lambda pair: -pair[1]["solves"]):
        table.add_row(*_cells(name, value))
    return Group(table, Text(f"{monotonic() - progress.began:3.0f} s  {progress.line()}"))


def _cells(name: str, value: Mapping[str, Any]) -> list[Text]:
    newest = value["recent_solves"][0]["challenge_name"] if value["recent_solves"] else ""
    numbers = (f"{value[field]:,}" for field in ("solves", "users", "challenges"))
    # Names are anybody's text: no markup, no control codes, no more than fits.
    return [_name(name), *map(Text, numbers), _name(newest)]


def _name(text: str | None) -> Text:
    plain = strip_control_codes(text or "")
    printable = "".join(letter for letter in plain if letter.isprintable())
    return Text(printable[:NAME_WIDTH], no_wrap=True, overflow="ellipsis")
