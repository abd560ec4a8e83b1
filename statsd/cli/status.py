"""`statsd status` and `statsd top`: the state of all daemons, once and live."""

import asyncio
from time import monotonic
from typing import Annotated

import msgspec
import typer
from redis.asyncio import Redis
from rich.live import Live
from rich.text import Text

from statsd.cli.terminal import FAILED, errors_on_stderr, load_settings
from statsd.observability.status import Status, screen, status
from statsd.servers.redis_fitness import usable_redis


def show_status(
    as_json: Annotated[
        bool, typer.Option("--json", help="All figures as JSON, for programs.")
    ] = False,
) -> None:
    """Show the state of all daemons, and the pending jobs.

    The exit code is 0 if all is well, else 1. Durations in the JSON are in seconds, latencies in
    milliseconds.
    """
    with errors_on_stderr():
        found = asyncio.run(_once())
    typer.echo(msgspec.json.encode(found).decode() if as_json else screen(found))
    if found.troubles:
        raise typer.Exit(FAILED)


def top(
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two updates.")] = 1.0,
    seconds: Annotated[float, typer.Option(min=0, help="How long to run; 0: until Ctrl-C.")] = 0.0,
) -> None:
    """Show the output of `statsd status` live, until Ctrl-C."""
    with errors_on_stderr():
        try:
            asyncio.run(_live(interval, seconds))
        except KeyboardInterrupt:
            return


async def _once() -> Status:
    async with usable_redis(load_settings(complete=False).redis_url) as client:
        return await status(client)


async def _live(interval: float, seconds: float) -> None:
    async with usable_redis(load_settings(complete=False).redis_url) as client:
        began = monotonic()
        with Live(await _screen(client), auto_refresh=False, screen=False) as live:
            while not seconds or monotonic() - began < seconds:
                await asyncio.sleep(min(interval, seconds or interval))
                live.update(await _screen(client), refresh=True)


async def _screen(client: Redis) -> Text:
    return Text(screen(await status(client)), no_wrap=True)
