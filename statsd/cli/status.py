"""`statsd status` and `statsd top`: how all daemons are, once and live."""

import asyncio
from time import monotonic
from typing import Annotated

import msgspec
import typer
from redis.asyncio import Redis
from rich.live import Live
from rich.text import Text

from statsd.cli.terminal import FAILED, errors_in_a_line, load_settings
from statsd.observability.status import Status, screen, status
from statsd.servers.redis_client import redis_client


def show_status(
    as_json: Annotated[bool, typer.Option("--json", help="All figures, for programs.")] = False,
) -> None:
    """Say how all daemons are, and what is owed.

    The exit code is 0 when all is well, else 1. Durations in the JSON are in seconds, latencies in
    milliseconds.
    """
    with errors_in_a_line():
        found = asyncio.run(_once())
    typer.echo(msgspec.json.encode(found).decode() if as_json else screen(found))
    if found.troubles:
        raise typer.Exit(FAILED)


def top(
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    seconds: Annotated[float, typer.Option(min=0, help="How long; 0: until Ctrl-C.")] = 0.0,
) -> None:
    """Show the same live, until Ctrl-C."""
    with errors_in_a_line():
        try:
            asyncio.run(_live(interval, seconds))
        except KeyboardInterrupt:
            return


async def _once() -> Status:
    async with redis_client(load_settings(complete=False).redis_url) as client:
        return await status(client)


async def _live(interval: float, seconds: float) -> None:
    async with redis_client(load_settings(complete=False).redis_url) as client:
        began = monotonic()
        with Live(await _shown(client), auto_refresh=False, screen=False) as live:
            while not seconds or monotonic() - began < seconds:
                await asyncio.sleep(min(interval, seconds or interval))
                live.update(await _shown(client), refresh=True)


async def _shown(client: Redis) -> Text:
    return Text(screen(await status(client)), no_wrap=True)
