"""`statsd reconcile`: compare the cache with the database, and enqueue wrong values."""

import asyncio
from typing import TYPE_CHECKING

import typer

from statsd.cli.terminal import FAILED, errors_on_stderr, load_settings
from statsd.cli.verify import Reference
from statsd.settings import Settings

if TYPE_CHECKING:
    from statsd.consistency.verify import VerifyReport


def reconcile(dojo: Reference = None) -> None:
    """Compare the cache with the database, and enqueue wrong values.

    A daemon then computes them. The output is that of `statsd verify`. The exit code is 1 if any
    value cannot be computed.
    """
    with errors_on_stderr():
        report = asyncio.run(_reconcile(load_settings(), dojo))
    for line in report.lines(enqueued=True):
        typer.echo(line)
    if report.failed:
        raise typer.Exit(FAILED)


async def _reconcile(settings: Settings, dojo: str | None) -> "VerifyReport":
    from statsd.consistency.verify import verified  # noqa: PLC0415
    from statsd.job import Priority  # noqa: PLC0415
    from statsd.jobs.pending import PendingJob  # noqa: PLC0415
    from statsd.jobs.queue import Queue  # noqa: PLC0415 - other commands start faster without these

    async with verified(settings, dojo) as (redis, report):
        if report.wrong:
            queue = Queue(redis, "reconcile", lease=0, dead_limit=settings.dead_letters)
            await queue.enqueue(
                [PendingJob(job, priority=Priority.ORDINARY) for job in report.wrong]
            )
        return report
