"""What a solve changes at once: the entries of a user, and the statistics of a dojo.

A solve enqueues one `UserEntries`. Its answer has all entries of the user in the dojo; a script
compares them with the stored ones and moves what follows from them by the difference. The dojo's
statistics then come from the state, without a pass over its solves.

`statsd/boards/lua/state.lua` describes the state in Redis.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from statsd.calculators import dojo_stats, user_entries
from statsd.calculators.counted import paired
from statsd.calculators.dojo_stats import CHALLENGE_NAME, RECENT, DojoStats, Newest, Totals
from statsd.calculators.user_entries import COUNTED, Person, UserEntries, entries_in, grouped
from statsd.definitions import RECENT_SOLVES
from statsd.job import microseconds
from statsd.jobs.attempt import Answer, Attempt, PrefetchedTotals
from statsd.jobs.executor import calculated
from statsd.schema import dojo_challenges as row
from statsd.servers.database import Database

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive UTC
Place = tuple[int, int, int]
"""dojo_id, module_index and challenge_index of a challenge row."""


class LiveBoards:
    """Executes `UserEntries` and `DojoStats`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def user_entries_of(
        self, wanted: Sequence[UserEntries], attempt: Attempt
    ) -> Mapping[UserEntries, Answer]:
        """Look up what users have in dojos; answers are by dojo, whose state is then opened once.

        Where only some solves have changed, the stored entries of other challenges stay.
        """
        in_order = sorted(wanted, key=lambda job: job.dojo_id)
        pairs = user_entries.pairs(in_order, attempt.changed)
        rows = await self._database.alone(user_entries.ENTRIES_OF_PAIRS, pairs)
        answers = {}
        for found in rows:
            person = Person(found.name, found.email)
            new = {
                "dojo": str(found.dojo_id),
                "user": str(found.user_id),
                "name": person.digest if found.is_shown else 0,
                "entries": entries_in(found),
                "tagged": found.is_shown and person.is_tagged,
                "person": person.text if found.is_shown else "",
            }
            job = UserEntries(found.dojo_id, found.user_id)
            if job.name in attempt.changed:
                new["changed"] = attempt.changed[job.name]
            answers[job] = Answer({}, boards={"user_entries": new})
        return answers

    async def dojo_stats(
        self, wanted: Sequence[DojoStats], attempt: Attempt
    ) -> Mapping[DojoStats, Answer]:
        """Compute the statistics of dojos, from their states where possible."""
        prefetched = {job: totals for job in wanted if (totals := attempt.prefetched.get(job.name))}
        answers = await self._from_prefetched(prefetched, attempt.now) if prefetched else {}
        others = [job for job in wanted if job not in prefetched]
        if others:
            async with self._database.snapshot() as snapshot:
                answers |= await calculated(dojo_stats.calculator, snapshot, others, attempt)
        return answers

    async def _from_prefetched(
        self, prefetched: Mapping[DojoStats, PrefetchedTotals], now: datetime
    ) -> dict[DojoStats, Answer]:
        """Return the statistics of dojos from prefetched totals and the rows of the dojos."""
        newest = {job: _newest_in(job, totals, now) for job, totals in prefetched.items()}
        names = await self._challenge_names({place for own in newest.values() for _, place in own})
        answers = {}
        parameters = dojo_stats.parameters(list(prefetched), now)
        for dojo in await self._database.alone(dojo_stats.DOJOS, parameters):
            job = DojoStats(dojo.dojo_id)
            found = prefetched[job]
            shown = [Newest(date, names[place]) for date, place in newest[job] if place in names]
            oldest = shown[-1].date if shown else None
            answers[job] = Answer(
                dojo_stats.value(dojo, Totals(found.solves, found.users, found.chart), shown),
                until=dojo_stats.next_change(dojo, oldest, now),
            )
        return answers

    async def _challenge_names(self, places: set[Place]) -> Mapping[Place, str | None]:
        if not places:
            return {}
        dojo_ids, module_indexes, challenge_indexes = zip(*places, strict=True)
        rows = await self._database.alone(
            CHALLENGE_NAMES,
            {
                "dojo_ids": dojo_ids,
                "module_indexes": module_indexes,
                "challenge_indexes": challenge_indexes,
            },
        )
        return {
            (each.dojo_id, each.module_index, each.challenge_index): each.challenge_name
            for each in rows
        }


def _newest_in(
    job: DojoStats, totals: PrefetchedTotals, now: datetime
) -> list[tuple[datetime, Place]]:
    """Return the date and the row of the newest solves, in the order of `NEWEST_FIRST`."""
    earliest = microseconds(now - RECENT)
    found = [
        each for each in grouped(totals.newest) if each.flags & COUNTED and each.date >= earliest
    ]
    found.sort(key=lambda each: (each.module_index, each.challenge_index))
    found.sort(key=lambda each: (each.date, each.solve_id), reverse=True)
    return [
        (
            _EPOCH + timedelta(microseconds=each.date),
            (job.dojo_id, each.module_index, each.challenge_index),
        )
        for each in found[:RECENT_SOLVES]
    ]


def _challenge_names() -> "sa.Select[tuple[int, int, int, str]]":
    """Select the names of the challenge rows at some places."""
    place = paired(
        dojo_id="dojo_ids", module_index="module_indexes", challenge_index="challenge_indexes"
    )
    return sa.select(
        place.c.dojo_id,
        place.c.module_index,
        place.c.challenge_index,
        CHALLENGE_NAME.label("challenge_name"),
    ).select_from(
        place.join(
            row,
            sa.and_(
                row.c.dojo_id == place.c.dojo_id,
                row.c.module_index == place.c.module_index,
                row.c.challenge_index == place.c.challenge_index,
            ),
        )
    )


CHALLENGE_NAMES = _challenge_names()
