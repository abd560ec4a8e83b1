"""`statsd verify`: compare the cache with the database, and change nothing."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from statsd.cli.terminal import FAILED, errors_in_a_line, load_settings
from statsd.settings import Settings

if TYPE_CHECKING:
    from statsd.consistency.verify import VerifyReport

Reference = Annotated[
    str | None,
    typer.Option("--dojo", metavar="REF", help="Only the dojo of this reference id, or `dojo_id`."),
]


def verify(dojo: Reference = None) -> None:
    """Compare the cache with the database, and change nothing.

    What differs is printed; what differs because its event is still under way is waited for, and
    is not wrong. The exit code is 1 where anything is wrong, still owed or cannot be computed.
    `statsd reconcile` has it put right.
    """
    with errors_in_a_line():
        report = asyncio.run(_verify(load_settings(), dojo))
    for line in report.lines(enqueued=False):
        typer.echo(line)
    if not report.is_well:
        raise typer.Exit(FAILED)


async def _verify(settings: Settings, dojo: str | None) -> "VerifyReport":
    from statsd.consistency.verify import inspected  # noqa: PLC0415 - other commands start faster so

    async with inspected(settings, dojo) as (_, report):
        return report
