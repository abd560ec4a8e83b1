"""`statsd why`: explain the state of one value."""

import asyncio
from typing import Annotated

import typer

from statsd.cli.terminal import errors_on_stderr, load_settings
from statsd.observability.explain import Line, shown, why
from statsd.servers.redis_fitness import usable_redis


def show_why(
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            help="A key of the cache, as stats:dojo:intro; or a job, as dojo_stats:-5.",
        ),
    ],
) -> None:
    """Explain why a value is as it is.

    Print the job that writes it and its as-of, the last event, the duration of the last answer,
    whether the job is pending and when it is due, and its failures.
    """
    with errors_on_stderr():
        lines = asyncio.run(_found(key))
    for line in shown(lines):
        typer.echo(line)


async def _found(key: str) -> list[Line]:
    async with usable_redis(load_settings(complete=False).redis_url) as client:
        return await why(client, key)
