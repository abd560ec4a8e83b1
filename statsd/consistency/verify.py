"""What `statsd verify` and `statsd reconcile` share: a look at the cache, and its report."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import typer
from redis.asyncio import Redis

from statsd.consistency.compare import Verdict
from statsd.consistency.inspection import Discrepancy, Inspection
from statsd.job import Job
from statsd.servers.database import Database
from statsd.servers.redis_client import redis_client
from statsd.settings import Settings

POOL = 2  # connections


class VerifyReport(NamedTuple):
    """What came of comparing."""

    compared: int
    """How many refreshes were."""
    findings: list[Discrepancy]

    @property
    def wrong(self) -> list[Job]:
        """What differs, and nothing is under way to put it right."""
        return [each.job for each in self.findings if each.verdict is Verdict.DRIFTED]

    @property
    def pending(self) -> int:
        """How many were still owed when there had been time to compute them."""
        return sum(each.verdict is Verdict.PENDING for each in self.findings)

    @property
    def failed(self) -> int:
        """How many could not be computed."""
        return sum(each.verdict is None for each in self.findings)

    @property
    def is_well(self) -> bool:
        """Whether the cache is what the database says, and all of it is known to be."""
        return not (self.wrong or self.pending or self.failed)

    def lines(self, *, enqueued: bool) -> Iterator[str]:
        """Yield what to print: a line for each that differs, and the sum."""
        for each in self.findings:
            if each.verdict is not Verdict.WRITTEN:
                waits = " (owed already)" if each.verdict is Verdict.PENDING else ""
                yield f"{each.job.name}  {'; '.join(each.what)}{waits}"
        sentence = f"{self.compared} compared, {len(self.wrong)} wrong"
        if self.wrong and enqueued:
            sentence += ", now marked for a daemon to compute"
        if self.pending:
            sentence += f"; {self.pending} not computed yet: does a daemon run?"
        if self.failed:
            sentence += f"; {self.failed} could not be computed: see `statsd dead list`"
        yield sentence


@asynccontextmanager
async def inspected(
    settings: Settings, dojo: str | None
) -> AsyncIterator[tuple[Redis, VerifyReport]]:
    """Compare all that is cached, or what is a dojo's; give the report, and Redis to act on it.

    `dojo` is a reference id or a `dojo_id`. Raises UnknownDojoError.
    """
    database = Database(
        settings.database_url,
        pool_size=POOL,
        statement_timeout=settings.statement_timeout,
        prepared_statements=settings.prepared_statements,
    )
    try:
        async with redis_client(settings.redis_url) as redis:
            inspection = Inspection(redis, database, refill=not settings.skip_cold_start)
            yield redis, await _report(inspection, dojo)
    finally:
        await database.close()


async def _report(inspection: Inspection, dojo: str | None) -> VerifyReport:
    jobs = await inspection.statistics(dojo)
    with typer.progressbar(
        length=len(jobs), file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as progress:
        async for compared in inspection.compare(jobs):
            progress.update(compared)
    return VerifyReport(len(jobs), await inspection.findings())
