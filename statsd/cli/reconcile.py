"""`statsd reconcile`: compare the cache with the database, and have a daemon put it right."""

import asyncio
from typing import TYPE_CHECKING

import typer

from statsd.cli.terminal import FAILED, errors_in_a_line, load_settings
from statsd.cli.verify import Reference
from statsd.settings import Settings

if TYPE_CHECKING:
    from statsd.consistency.verify import VerifyReport


def reconcile(dojo: Reference = None) -> None:
    """Compare the cache with the database, and have a daemon put it right.

    As `statsd verify`; and what is wrong is marked for a daemon to compute. The exit code is 1
    where anything cannot be computed.
    """
    with errors_in_a_line():
        report = asyncio.run(_reconcile(load_settings(), dojo))
    for line in report.lines(enqueued=True):
        typer.echo(line)
    if report.failed:
        raise typer.Exit(FAILED)


async def _reconcile(settings: Settings, dojo: str | None) -> "VerifyReport":
    from statsd.consistency.verify import inspected  # noqa: PLC0415
    from statsd.job import Priority  # noqa: PLC0415
    from statsd.jobs.pending import PendingJob  # noqa: PLC0415
    from statsd.jobs.queue import Queue  # noqa: PLC0415 - other commands start faster without these

    async with inspected(settings, dojo) as (redis, report):
        if report.wrong:
            queue = Queue(redis, "reconcile", lease=0, dead_limit=settings.dead_letters)
            await queue.enqueue(
                [PendingJob(each, priority=Priority.ORDINARY) for each in report.wrong]
            )
        return report
