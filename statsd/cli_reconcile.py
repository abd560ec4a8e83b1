"""`statsd reconcile`: compare the cache with the database, and have a daemon put it right."""

import asyncio
import sys
from typing import Annotated

import typer

from statsd.compare import Verdict
from statsd.database import Database
from statsd.inspection import Finding, Inspection
from statsd.marks import Marks
from statsd.refresh import Mark, Priority
from statsd.servers import redis_client
from statsd.settings import Settings
from statsd.terminal import FAILED, errors_in_a_line, load_settings

POOL = 2  # connections


def reconcile(
    dojo: Annotated[
        str | None,
        typer.Option(metavar="REF", help="Only the dojo of this reference id, or `dojo_id`."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what differs; the exit code is 1 then.")
    ] = False,
) -> None:
    """Compare the cache with the database.

    What differs is printed, and marked for a daemon to compute; but what differs because its event
    is still under way is waited for, and is not wrong.
    """
    with errors_in_a_line():
        well = asyncio.run(_reconcile(load_settings(), dojo, dry_run=dry_run))
    if not well:
        raise typer.Exit(FAILED)


async def _reconcile(settings: Settings, dojo: str | None, *, dry_run: bool) -> bool:
    """Do it; return whether nothing is left for the operator to see to."""
    database = Database(
        settings.database_url,
        pool_size=POOL,
        statement_timeout=settings.statement_timeout,
        prepared_statements=settings.prepared_statements,
    )
    try:
        async with redis_client(settings.redis_url) as client:
            inspection = Inspection(client, database, refill=not settings.skip_cold_start)
            refreshes = await inspection.statistics(dojo)
            with typer.progressbar(
                length=len(refreshes), file=sys.stderr, hidden=not sys.stderr.isatty()
            ) as progress:
                async for compared in inspection.compare(refreshes):
                    progress.update(compared)
            findings = await inspection.findings()
            wrong = [each.refresh for each in findings if each.verdict is Verdict.DRIFTED]
            if wrong and not dry_run:
                marks = Marks(client, "reconcile", lease=0, dead_limit=settings.dead_letters)
                await marks.mark([Mark(refresh, priority=Priority.ORDINARY) for refresh in wrong])
    finally:
        await database.close()
    return _report(findings, len(refreshes), dry_run=dry_run)


def _report(findings: list[Finding], compared: int, *, dry_run: bool) -> bool:
    for each in findings:
        if each.verdict is not Verdict.WRITTEN:
            waits = " (owed already)" if each.verdict is Verdict.OWED else ""
            typer.echo(f"{each.refresh.name}  {'; '.join(each.what)}{waits}")
    count = {verdict: sum(each.verdict is verdict for each in findings) for verdict in Verdict}
    failed = sum(each.verdict is None for each in findings)
    wrong = count[Verdict.DRIFTED]
    sentence = f"{compared} compared, {wrong} wrong"
    if wrong and not dry_run:
        sentence += ", now marked for a daemon to compute"
    if owed := count[Verdict.OWED]:
        sentence += f"; {owed} not computed yet: does a daemon run?"
    if failed:
        sentence += f"; {failed} could not be computed: see `statsd dead list`"
    typer.echo(sentence)
    return not failed and not (dry_run and (wrong or owed))
