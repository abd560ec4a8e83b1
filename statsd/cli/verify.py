"""`statsd verify`: compare the cache with the database, and change nothing."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from statsd.cli.terminal import FAILED, errors_on_stderr, load_settings
from statsd.settings import Settings

if TYPE_CHECKING:
    from statsd.consistency.verify import VerifyReport

Reference = Annotated[
    str | None,
    typer.Option("--dojo", metavar="REF", help="Only the dojo with this reference id or dojo_id."),
]


def verify(dojo: Reference = None) -> None:
    """Compare the cache with the database, and change nothing.

    Differences are printed. A value whose event is still under way is waited for, and is not
    wrong. The exit code is 1 if any value is wrong, still pending, or cannot be computed.
    `statsd reconcile` enqueues wrong values.
    """
    with errors_on_stderr():
        report = asyncio.run(_verify(load_settings(), dojo))
    for line in report.lines(enqueued=False):
        typer.echo(line)
    if not report.is_well:
        raise typer.Exit(FAILED)


async def _verify(settings: Settings, dojo: str | None) -> "VerifyReport":
    from statsd.consistency.verify import verified  # noqa: PLC0415 - other commands start faster so

    async with verified(settings, dojo) as (_, report):
        return report
