"""The output of `statsd demo`: a live table in a terminal, plain lines elsewhere."""

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

TABLE_INTERVAL = 0.25  # seconds between two updates of the table
LINE_INTERVAL = 2.0  # seconds between two lines
NAME_WIDTH = 32  # columns


@dataclass
class DemoProgress:
    """The number of committed solves, and the latencies of those in the cache."""

    began: float = field(default_factory=monotonic)
    committed: int = 0
    latencies: list[float] = field(default_factory=list)
    """Seconds from commit to cache."""

    def line(self) -> str:
        """Return the state in one line."""
        counts = f"{self.committed} solves committed, {len(self.latencies)} in the cache"
        return f"{counts}; {percentiles(self.latencies)}" if self.latencies else counts

    def summarise(self, dojos: int, wrong: Sequence[str]) -> None:
        """Print the final counts and latencies."""
        seconds = monotonic() - self.began
        say(
            f"\n{self.committed} solves committed in {seconds:.0f} s, "
            f"{len(self.latencies)} reached the cache, {self.committed - len(self.latencies)} lost"
        )
        if self.latencies:
            say(f"from commit to cache: {percentiles(self.latencies)}")
        say(f"{dojos - len(wrong)} of {dojos} dojos equal a full calculation")


def percentiles(latencies: Sequence[float]) -> str:
    """Return the median and the 99th percentile of latencies (seconds) as text, in ms."""
    if len(latencies) == 1:
        p50 = p99 = latencies[0]
    else:
        cuts = statistics.quantiles(latencies, n=100, method="inclusive")
        p50, p99 = cuts[49], cuts[98]
    return f"median {p50 * 1000:.1f} ms, 99th percentile {p99 * 1000:.1f} ms"


def say(text: str) -> None:
    """Print a line."""
    console.print(Text(text), soft_wrap=True)


async def show(progress: DemoProgress, cache: "Redis", names: Mapping[str, str]) -> None:
    """Show the progress until cancelled; `names` are those of dojos, by reference id."""
    if not console.is_terminal:
        while True:
            await asyncio.sleep(LINE_INTERVAL)
            say(f"{monotonic() - progress.began:3.0f} s: {progress.line()}")
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(await _table(progress, cache, names), refresh=True)
            await asyncio.sleep(TABLE_INTERVAL)


async def _table(progress: DemoProgress, cache: "Redis", names: Mapping[str, str]) -> Group:
    values = await cache.mget([keys.dojo_stats(reference) for reference in names])
    table = Table("dojo", title="cached statistics, as a web page shows them", title_justify="left")
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
    # Users choose the names: show no markup, no control codes, and limit the width.
    return [_name(name), *map(Text, numbers), _name(newest)]


def _name(text: str | None) -> Text:
    plain = strip_control_codes(text or "")
    printable = "".join(letter for letter in plain if letter.isprintable())
    return Text(printable[:NAME_WIDTH], no_wrap=True, overflow="ellipsis")
