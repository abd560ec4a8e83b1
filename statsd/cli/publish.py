"""`statsd publish`: publish one event by hand."""

import asyncio
import sys
from typing import Annotated, Any

import typer

from statsd import keys
from statsd.cli.event_arguments import parse_event
from statsd.cli.terminal import errors_on_stderr, load_settings
from statsd.events import EVENT_TYPES, Event, encode
from statsd.servers.redis_fitness import usable_redis

STANDARD_INPUT = "-"


def publish(
    event_type: Annotated[
        str,
        typer.Argument(metavar="TYPE", help=f"The event type: {', '.join(EVENT_TYPES)}."),
    ],
    payload: Annotated[
        str,
        typer.Argument(
            metavar="[JSON]", help="The fields, as an object; -: read from standard input."
        ),
    ] = "{}",
) -> None:
    """Publish one event by hand.

    This is useful after a repair in the database. A daemon computes the values that the event
    makes stale. The id of the stream entry is printed. The meaning of the types is in
    docs/contract.md. For wrong fields, the error lists the fields of the type.

    \b
    statsd publish dojo_stats_update '{"dojo_id": -270104022}'
    statsd publish challenge_solve '{"user_id": 7, "challenge_id": 12}'
    statsd publish belts_update
    """  # noqa: D301 - the escape keeps the line breaks
    with errors_on_stderr():
        text = _standard_input() if payload == STANDARD_INPUT else payload
        typer.echo(asyncio.run(_publish(parse_event(event_type, text))))


def _standard_input() -> str:
    """Return the text on standard input, with bytes that are no UTF-8 as surrogates."""
    return sys.stdin.buffer.read().decode(errors="surrogateescape")


async def _publish(event: Event) -> str:
    """Add the entry as the web half does; return its id."""
    async with usable_redis(load_settings(complete=False).redis_url) as redis:
        entry_id: Any = await redis.xadd(keys.STREAM, {"data": encode(event)})
    return str(entry_id.decode())
