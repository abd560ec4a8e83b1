"""Checks: find out what an event that names no cause has changed in a dojo.

Producers tell of a new member, or of a changed challenge, by events that name only the dojo. A
whole pass for each of them would be far too much: a class of 200 joins in a minute. So the state
keeps a digest of the dojo's structure, and its memberships. Another structure makes a whole pass
necessary; other memberships concern only those users. The records of all users are then compared
with the database, in slices.
"""

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from redis.asyncio import Redis

from statsd import keys
from statsd.boards import columns, structure
from statsd.boards.records import RecordReader, differing_users
from statsd.calculators import Cost
from statsd.calculators.dojo_check import DojoCheck, RecordsCheck
from statsd.calculators.user_entries import ENTRIES_IN_RANGE, UserEntries
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.executor import COOLDOWN_FACTOR
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import UPLOAD_TTL
from statsd.servers.database import Database

SLICE = 2000  # ids of users compared at a time
SLICE_DELAY = 0.5  # seconds between two slices, at least
COST = Cost(batch=20)  # dojos
SLICE_COST = Cost(batch=1, full_pass=True)


class Checker:
    """Executes `DojoCheck` and `RecordsCheck`."""

    def __init__(self, redis: Redis, database: Database) -> None:
        self._redis = redis
        self._database = database
        self._records = RecordReader(redis)

    async def dojos(
        self, wanted: Sequence[DojoCheck], attempt: Attempt
    ) -> Mapping[DojoCheck, Answer]:
        """Return what the changes of dojos make necessary."""
        parameters = structure.parameters([job.dojo_id for job in wanted])
        async with self._database.snapshot() as snapshot:
            structures = {
                each.dojo_id: each for each in await snapshot.rows(structure.STRUCTURE, parameters)
            }
            members = {
                each.dojo_id: each for each in await snapshot.rows(structure.MEMBERS, parameters)
            }
        return {
            job: await self._answer(
                job, structures.get(job.dojo_id), members.get(job.dojo_id), attempt
            )
            for job in wanted
        }

    async def _answer(self, job: DojoCheck, own: Any, members: Any, attempt: Attempt) -> Answer:
        dojo = str(job.dojo_id)
        doubt = Answer({}, boards={"doubt": {"dojo": dojo}})
        prefix = await self._prefix(job.dojo_id)
        if own is None or prefix is None:
            return doubt
        digest: Any = await self._redis.hget(prefix, "structure")
        before: Any = await self._redis.get(f"{prefix}:members")
        if digest is None or before is None or digest.decode() != own.digest:
            return doubt
        now = structure.packed_members(members)
        users = structure.changed_members(before, now)
        jobs = [PendingJob(UserEntries(job.dojo_id, user)) for user in users]
        members_now = {}
        if users:
            place = f"{keys.UPLOADS}members:{job.dojo_id}:{attempt.token}"
            await self._redis.set(place, now, ex=UPLOAD_TTL)
            members_now = {"members": {"dojo": dojo, "prefix": prefix, "place": place}}
        return Answer({}, [*jobs, PendingJob(RecordsCheck(job.dojo_id, 0))], boards=members_now)

    async def _prefix(self, dojo_id: int) -> str | None:
        generation = await self._redis.get(keys.boards(dojo_id))
        return None if generation is None else keys.generation(dojo_id, int(generation))

    async def records(
        self, wanted: Sequence[RecordsCheck], _attempt: Attempt
    ) -> Mapping[RecordsCheck, Answer]:
        """Compare a slice of the users of each dojo; enqueue those who differ, and the next."""
        return {job: await self._compared(job) for job in wanted}

    async def _compared(self, job: RecordsCheck) -> Answer:
        began = monotonic()
        stored = await self._records.read(job.dojo_id, job.first, job.first + SLICE - 1)
        if stored is None:
            return Answer({}, boards={"ask": {"dojo": str(job.dojo_id)}})
        async with self._database.snapshot() as snapshot:
            parameters = {"dojo_id": job.dojo_id, "first": job.first, "last": stored.last}
            entries = await columns.read(snapshot, ENTRIES_IN_RANGE, parameters)
            [newest_user] = await snapshot.scalars(structure.NEWEST_USER)
        jobs = [
            PendingJob(UserEntries(job.dojo_id, user))
            for user in differing_users(stored.records, entries)
        ]
        if newest_user is not None and stored.last < newest_user:
            jobs.append(PendingJob(RecordsCheck(job.dojo_id, stored.last + 1), SLICE_DELAY))
        # The next check of the dojo begins at its first user: it waits in proportion to all slices.
        slices = (newest_user or 0) // (stored.last + 1) + 1
        seconds = 0.0 if job.first else COOLDOWN_FACTOR * (monotonic() - began) * slices
        return Answer({}, jobs, cooldown=seconds)
