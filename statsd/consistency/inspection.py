"""What an operator asks for: compare the cache with the database now, and have it put right."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any, NamedTuple

from redis.asyncio import Redis

from statsd import keys
from statsd.calculators.catalog import is_statistic
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.references import find_dojo
from statsd.consistency.compare import Compared, Comparison, Difference, Verdict
from statsd.consistency.existing import every_statistic
from statsd.consistency.in_flight import intake
from statsd.errors import StatsdError
from statsd.job import Job, known
from statsd.servers.database import Database

PAGE = 50  # refreshes compared at once
GRACE = 2.0  # seconds for an event that is about to be published
PATIENCE = 15.0  # seconds
LOOK_INTERVAL = 0.2  # seconds
_DOJO_ID = re.compile(r"-?[0-9]{1,10}")


class UnknownDojoError(StatsdError):
    """There is no such dojo, and the cache has nothing of it."""


class Discrepancy(NamedTuple):
    """What was compared and did not agree, or could not be."""

    job: Job
    verdict: Verdict | None
    """None where it could not be computed."""
    what: list[str]


class Inspection:
    """One look at some or all statistics."""

    def __init__(
        self, redis: Redis, database: Database, *, refill: bool, patience: float = PATIENCE
    ) -> None:
        """Without `refill` values that are absent are left out (SKIP_COLD_START).

        `patience` is for what is under way, in seconds.
        """
        self._redis = redis
        self._database = database
        self._comparison = Comparison(redis, database)
        self._refill = refill
        self._patience = patience
        self._differences: list[Difference] = []
        self._failures: list[tuple[Job, Exception]] = []

    async def statistics(self, reference: str | None = None) -> list[Job]:
        """List all that exists or is cached; of one dojo, by its reference id or `dojo_id`.

        Raises UnknownDojoError.
        """
        cached_before: Any = await self._redis.hkeys(keys.KEY_INDEX)
        cached = [
            each for each in known(name.decode() for name in cached_before) if is_statistic(each)
        ]
        found = dict.fromkeys([*await every_statistic(self._database), *cached])
        if reference is None:
            return list(found)
        dojo_id = await self._dojo_id(reference)
        own = [each for each in found if getattr(each, "dojo_id", None) == dojo_id]
        if dojo_id is None or not own:
            raise UnknownDojoError(
                f"there is no dojo {reference!a}, and the cache has nothing of it; want the "
                "reference id, as in its URL, or dojos.dojo_id"
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
                if isinstance(job, DojoStats):  # it is gone, and its key is not
                    return job.dojo_id
        return int(reference) if _DOJO_ID.fullmatch(reference) else None

    async def compare(self, jobs: Sequence[Job]) -> AsyncIterator[int]:
        """Compare; yield how many were, as it goes on."""
        for first in range(0, len(jobs), PAGE):
            page = jobs[first : first + PAGE]
            differences, failures = await self._compared(page)
            self._differences += differences
            self._failures += failures
            yield len(page)

    async def _compared(self, page: Sequence[Job]) -> Compared:
        seconds, micros = await self._redis.time()
        now = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None, microsecond=micros)
        differences, failures = await self._comparison.compare(page, now)
        wanted = [
            each for each in differences if self._refill or (each.cached_before and not each.lost)
        ]
        return Compared(wanted, failures)

    async def findings(self) -> list[Discrepancy]:
        """Wait for what is under way, and say of all that differed what became of it."""
        verdicts = await self._verdicts() if self._differences else {}
        found = [
            Discrepancy(each.job, verdicts[each.job.name], each.what) for each in self._differences
        ]
        return found + [
            Discrepancy(job, None, [f"could not be computed: {type(error).__name__}"])
            for job, error in self._failures
        ]

    async def _verdicts(self) -> dict[str, Verdict]:
        await self._wait()
        suspects = {each.job.name: each.as_ofs for each in self._differences}
        verdicts = await self._comparison.verdicts(suspects)
        guilty = [
            each.job for each in self._differences if verdicts[each.job.name] is Verdict.DRIFTED
        ]
        # What is not in the cache has no stamp that would show that it came and went.
        for first in range(0, len(guilty), PAGE):
            page = guilty[first : first + PAGE]
            still = {each.job for each in (await self._compared(page)).differences}
            verdicts |= {each.name: Verdict.WRITTEN for each in page if each not in still}
        return verdicts

    async def _wait(self) -> None:
        """Return when all that was published until now is accepted and answered, or is late."""
        await asyncio.sleep(GRACE)
        began = await intake(self._redis)
        suspects = {each.job.name: each.as_ofs for each in self._differences}
        deadline = monotonic() + self._patience
        while monotonic() < deadline:
            seen = await intake(self._redis)
            accepted = began.newest is None or seen.has_accepted(began.newest)
            verdicts = await self._comparison.verdicts(suspects)
            if accepted and Verdict.PENDING not in verdicts.values():
                return
            await asyncio.sleep(LOOK_INTERVAL)
