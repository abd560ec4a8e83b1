"""The names of the jobs that each change makes necessary.

Jobs that are enqueued are derived from the catalog, so that a new statistic needs no change here;
`tests/calculators/test_catalog.py` spells out the dependencies. This module itself lists the jobs
whose values a solve changes. Whether it also changes the value of a new statistic depends on the
definition of that statistic; tests compare the listed kinds only.
"""

import re
from collections.abc import Iterable

from statsd.calculators import Input
from statsd.calculators.activity import Activity
from statsd.calculators.belts import Belts
from statsd.calculators.catalog import STATISTICS, affected
from statsd.calculators.dojo_arrays import Boards
from statsd.calculators.dojo_check import DojoCheck
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.emojis import Emojis
from statsd.calculators.user_entries import UserEntries
from statsd.job import Job
from tests.support.webapp import Dojo, User

LISTED = {
    each.kind
    for each in (
        Activity,
        Belts,
        Boards,
        DojoCheck,
        DojoStats,
        Emojis,
        UserEntries,
    )
}
"""The kinds of which this module knows whether a solve changes the value."""


def named(jobs: Iterable[Job]) -> set[str]:
    """The names of these jobs."""
    return {job.name for job in jobs}


def listed(names: Iterable[str]) -> list[str]:
    """The names of jobs of listed kinds, or the lines that begin with such a name, in order."""
    return [name for name in names if re.split(r"\W", name, maxsplit=1)[0] in LISTED]


def not_listed(user: User, dojo: Dojo) -> list[Job]:
    """The further jobs of the catalog whose values a solve may change."""
    jobs = affected(Input.SOLVES | Input.BOARDS, dojo_id=dojo.dojo_id, user_id=user.id)
    return [job for job in jobs if job.kind not in LISTED]


def jobs_of_dojo(dojo_id: int) -> list[Job]:
    """The jobs whose values a solve in a dojo changes."""
    return [Boards(dojo_id), DojoStats(dojo_id)]


def of_dojos(*dojos: Dojo) -> set[str]:
    """The names of these jobs for all of these dojos."""
    return named(job for dojo in dojos for job in jobs_of_dojo(dojo.dojo_id))


def changed_by_solve(user: User, *dojos: Dojo) -> set[str]:
    """All jobs whose values a solve of a user changes."""
    return of_dojos(*dojos) | {Activity(user.id).name}


def of_solve(user: User, *dojos: Dojo) -> set[str]:
    """The jobs that a solve enqueues, before any state changes."""
    jobs = affected(Input.SOLVES, user_id=user.id)
    for dojo in dojos:
        jobs += affected(Input.SOLVES, dojo_id=dojo.dojo_id, user_id=user.id)
    return named(jobs)


def after_solve(user: User, *dojos: Dojo) -> set[str]:
    """The statistics that are computed after a user solved something.

    The arrays are none of them: `Exports` makes those that changed.
    """
    entries = named(UserEntries(dojo.dojo_id, user.id) for dojo in dojos)
    follow_ups = named(DojoStats(dojo.dojo_id) for dojo in dojos)
    return (of_solve(user, *dojos) - entries) | follow_ups


def after_change(*dojos: Dojo) -> set[str]:
    """The jobs that the event of a changed dojo enqueues."""
    return named(job for dojo in dojos for job in affected(Input.STRUCTURE, dojo_id=dojo.dojo_id))


def all_of_dojos(*dojos: Dojo) -> set[str]:
    """All statistics of these dojos."""
    return named(
        each.job.of(dojo.dojo_id)
        for dojo in dojos
        for each in STATISTICS
        if each.job.__struct_fields__ == ("dojo_id",)
    )


def of_all(*dojos: Dojo, solvers: Iterable[User] = ()) -> set[str]:
    """All statistics of a site with these dojos and these users who solved something."""
    of_users = named(Activity(user.id) for user in solvers)
    of_site = named(each.job() for each in STATISTICS if not each.job.__struct_fields__)
    return all_of_dojos(*dojos) | of_users | of_site
