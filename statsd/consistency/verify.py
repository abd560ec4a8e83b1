"""Comparing the cache with the database on request: `statsd verify` and `statsd reconcile`."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any, NamedTuple

import typer
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators.catalog import calculator_of, is_statistic
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.references import find_dojo
from statsd.consistency.compare import Comparison, ComparisonResult, Difference, Verdict
from statsd.consistency.reconcile import existing_statistics
from statsd.consistency.stream_position import stream_position
from statsd.errors import StatsdError
from statsd.job import Job, known
from statsd.servers.database import Database
from statsd.servers.redis_fitness import usable_redis
from statsd.settings import Settings

POOL_SIZE = 2  # connections
GRACE = 2.0  # seconds for an event that is about to be published
TIMEOUT = 15.0  # seconds for events and pending jobs that are under way
POLL_INTERVAL = 0.2  # seconds
_DOJO_ID = re.compile(r"-?[0-9]{1,10}")


class UnknownDojoError(StatsdError):
    """The dojo is neither in the database nor in the cache."""


class Discrepancy(NamedTuple):
    """A job whose values differed, or could not be computed."""

    job: Job
    verdict: Verdict | None
    """None if it could not be computed."""
    descriptions: list[str]


class VerifyReport(NamedTuple):
    """The result of a verification."""

    compared: int
    """How many jobs were compared."""
    discrepancies: list[Discrepancy]

    @property
    def wrong(self) -> list[Job]:
        """The jobs with wrong values that no pending job will correct."""
        return [each.job for each in self.discrepancies if each.verdict is Verdict.DRIFTED]

    @property
    def pending(self) -> int:
        """How many differing values still had a pending job after the timeout."""
        return sum(each.verdict is Verdict.PENDING for each in self.discrepancies)

    @property
    def failed(self) -> int:
        """How many jobs could not be computed."""
        return sum(each.verdict is None for each in self.discrepancies)

    @property
    def is_well(self) -> bool:
        """Whether every value was computed and agrees with the database."""
        return not (self.wrong or self.pending or self.failed)

    def lines(self, *, enqueued: bool) -> Iterator[str]:
        """Yield the lines to print: one for each discrepancy, then the totals."""
        for each in self.discrepancies:
            if each.verdict is not Verdict.WRITTEN:
                suffix = " (pending already)" if each.verdict is Verdict.PENDING else ""
                yield f"{each.job.name}  {'; '.join(each.descriptions)}{suffix}"
        totals = f"{self.compared} compared, {len(self.wrong)} wrong"
        if self.wrong and enqueued:
            totals += ", now enqueued for a daemon to compute"
        if self.pending:
            totals += f"; {self.pending} not computed yet: does a daemon run?"
        if self.failed:
            totals += f"; {self.failed} could not be computed: see `statsd dead list`"
        yield totals


class Verification:
    """One comparison of some or all statistics with the database."""

    def __init__(
        self, redis: Redis, database: Database, *, refill: bool, timeout: float = TIMEOUT
    ) -> None:
        """Without `refill` absent values are left out (SKIP_COLD_START).

        `timeout`, in seconds, is for events and pending jobs that are under way.
        """
        self._redis = redis
        self._database = database
        self._comparison = Comparison(redis, database)
        self._refill = refill
        self._timeout = timeout
        self._differences: list[Difference] = []
        self._failures: list[tuple[Job, Exception]] = []

    async def statistics(self, reference: str | None = None) -> list[Job]:
        """List every statistic that exists or is cached.

        With a reference id or a `dojo_id`, list those of that dojo. Raises UnknownDojoError.
        """
        names: Any = await self._redis.hkeys(keys.KEY_INDEX)
        cached = filter(is_statistic, known(name.decode() for name in names))
        found = dict.fromkeys([*await existing_statistics(self._database), *cached])
        if reference is None:
            return list(found)
        dojo_id = await self._dojo_id(reference)
        own = [job for job in found if getattr(job, "dojo_id", None) == dojo_id]
        if dojo_id is None or not own:
            raise UnknownDojoError(
                f"there is no dojo {reference!a} in the database or the cache; give the reference "
                "id, as in the dojo's URL, or dojos.dojo_id"
            )
        return own

    async def _dojo_id(self, reference: str) -> int | None:
        if keys.is_storable(reference):
            async with self._database.snapshot() as snapshot:
                found = await snapshot.scalars(find_dojo(reference))
            if found:
                return int(found[0])
            owner: Any = await self._redis.hget(keys.KEY_OWNERS, keys.dojo_stats(reference))
            for job in known([owner.decode()] if owner else []):
                if isinstance(job, DojoStats):  # the dojo is deleted, and its key is not
                    return job.dojo_id
        return int(reference) if _DOJO_ID.fullmatch(reference) else None

    async def compare(self, jobs: Sequence[Job]) -> AsyncIterator[int]:
        """Compare the values of jobs, page by page; yield the size of each page when done."""
        for page in _pages(jobs):
            differences, failures = await self._compare_page(page)
            self._differences += differences
            self._failures += failures
            yield len(page)

    async def _compare_page(self, page: Sequence[Job]) -> ComparisonResult:
        seconds, micros = await self._redis.time()
        now = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None, microsecond=micros)
        differences, failures = await self._comparison.compare(page, now)
        counted = [
            each
            for each in differences
            if self._refill or (each.cached_before and not each.all_missing)
        ]
        return ComparisonResult(counted, failures)

    async def discrepancies(self) -> list[Discrepancy]:
        """Wait for events and jobs under way; return all discrepancies with their verdicts."""
        verdicts = await self._verdicts() if self._differences else {}
        differing = [
            Discrepancy(each.job, verdicts[each.job.name], each.descriptions)
            for each in self._differences
        ]
        return differing + [
            Discrepancy(job, None, [f"could not be computed: {type(error).__name__}"])
            for job, error in self._failures
        ]

    async def _verdicts(self) -> dict[str, Verdict]:
        await self._wait()
        verdicts = await self._comparison.verdicts(self._suspects())
        drifted = [
            each.job for each in self._differences if verdicts[each.job.name] is Verdict.DRIFTED
        ]
        # The digest of a job without cached values never changes, so compare once more.
        for page in _pages(drifted):
            differing = {each.job for each in (await self._compare_page(page)).differences}
            verdicts |= {job.name: Verdict.WRITTEN for job in page if job not in differing}
        return verdicts

    async def _wait(self) -> None:
        """Wait until all events so far are accepted, and all differing values computed.

        Return after the timeout in any case.
        """
        await asyncio.sleep(GRACE)
        end = (await stream_position(self._redis)).newest
        deadline = monotonic() + self._timeout
        while monotonic() < deadline:
            position = await stream_position(self._redis)
            accepted = end is None or position.has_accepted(end)
            verdicts = await self._comparison.verdicts(self._suspects())
            if accepted and Verdict.PENDING not in verdicts.values():
                return
            await asyncio.sleep(POLL_INTERVAL)

    def _suspects(self) -> dict[str, str]:
        return {each.job.name: each.digest for each in self._differences}


def _pages(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Yield jobs of one kind, as many as the same statements compute."""
    by_kind: dict[str, list[Job]] = {}
    for job in jobs:
        by_kind.setdefault(job.kind, []).append(job)
    for kind, own in by_kind.items():
        size = calculator_of(kind).cost.batch
        yield from (own[first : first + size] for first in range(0, len(own), size))


@asynccontextmanager
async def verified(
    settings: Settings, dojo: str | None
) -> AsyncIterator[tuple[Redis, VerifyReport]]:
    """Verify all statistics or those of one dojo; give a client of Redis, and the report.

    `dojo` is a reference id or a `dojo_id`. Raises UnknownDojoError.
    """
    database = Database(
        settings.database_url,
        pool_size=POOL_SIZE,
        statement_timeout=settings.statement_timeout,
        prepared_statements=settings.prepared_statements,
    )
    try:
        async with usable_redis(settings.redis_url) as redis:
            verification = Verification(redis, database, refill=not settings.skip_cold_start)
            yield redis, await _report(verification, dojo)
    finally:
        await database.close()


async def _report(verification: Verification, dojo: str | None) -> VerifyReport:
    jobs = await verification.statistics(dojo)
    with typer.progressbar(
        length=len(jobs), file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as progress:
        async for compared in verification.compare(jobs):
            progress.update(compared)
    return VerifyReport(len(jobs), await verification.discrepancies())
