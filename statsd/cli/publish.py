"""`statsd publish`: publish one event by hand."""

import asyncio
import sys
from typing import Annotated, Any

import typer

from statsd import keys
from statsd.cli.terminal import errors_in_a_line, load_settings
from statsd.cli.typed_event import read
from statsd.events import EVENT_TYPES, Event, encode
from statsd.servers.redis_client import redis_client

STANDARD_INPUT = "-"


def publish(
    kind: Annotated[
        str, typer.Argument(metavar="TYPE", help=f"What happened: {', '.join(EVENT_TYPES)}.")
    ],
    payload: Annotated[
        str, typer.Argument(metavar="[JSON]", help="An object with its fields; -: from the input.")
    ] = "{}",
) -> None:
    """Publish one event by hand, say after a repair in the database.

    A daemon computes anew what the event makes stale. The id of the stream's entry is printed.
    What the types mean is in docs/contract.md; fields that are wrong are answered with those that
    a type has.

    \b
    statsd publish dojo_stats_update '{"dojo_id": -270104022}'
    statsd publish challenge_solve '{"user_id": 7, "challenge_id": 12}'
    statsd publish belts_update
    """  # noqa: D301 - what is escaped keeps the lines as they are
    with errors_in_a_line():
        text = _typed() if payload == STANDARD_INPUT else payload
        typer.echo(asyncio.run(_publish(read(kind, text))))


def _typed() -> str:
    """Return what comes on standard input, also where that is no text."""
    return sys.stdin.buffer.read().decode(errors="surrogateescape")


async def _publish(event: Event) -> str:
    """Add the entry that the web half would; return its id."""
    async with redis_client(load_settings(complete=False).redis_url) as redis:
        entry_id: Any = await redis.xadd(keys.STREAM, {"data": encode(event)})
    return str(entry_id.decode())
