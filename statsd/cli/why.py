"""`statsd why`: what is known of one value."""

import asyncio
from typing import Annotated

import typer

from statsd.cli.terminal import errors_in_a_line, load_settings
from statsd.observability.explain import Line, shown, why
from statsd.servers.redis_client import redis_client


def show_why(
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            help="A key of the cache, as stats:dojo:intro; or a refresh, as dojo_stats:-5.",
        ),
    ],
) -> None:
    """Say why a value is as it is.

    Who answers it and for which moment it is true, the last event, how long the last answer took,
    whether another one is owed and when it comes, and what failed.
    """
    with errors_in_a_line():
        lines = asyncio.run(_found(key))
    for line in shown(lines):
        typer.echo(line)


async def _found(key: str) -> list[Line]:
    async with redis_client(load_settings(complete=False).redis_url) as client:
        return await why(client, key)
