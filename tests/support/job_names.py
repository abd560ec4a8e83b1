"""The names of the jobs that follow from what happens.

They are derived from the catalog, so that a new statistic needs no change here;
`tests/handlers/test_effects.py` spells out those of each event.
"""

from collections.abc import Iterable

from statsd.calculators import Input
from statsd.calculators.activity import Activity
from statsd.calculators.catalog import STATISTICS, affected
from statsd.calculators.emojis import Emojis
from statsd.job import Job
from tests.support.webapp import Dojo, User


def named(jobs: Iterable[Job]) -> set[str]:
    return {job.name for job in jobs}


def of_dojo(dojo_id: int) -> list[Job]:
    """The jobs of a dojo that depend on its rows."""
    return [job for job in affected(Input.STRUCTURE, dojo_id=dojo_id) if job.__struct_fields__]


def of_dojos(*dojos: Dojo) -> set[str]:
    """The jobs that depend on the rows of these dojos: all but crews."""
    return named(job for dojo in dojos for job in of_dojo(dojo.dojo_id))


def of_solve(user: User, *dojos: Dojo) -> set[str]:
    """The jobs that a solve enqueues, before any live board changes."""
    jobs = affected(Input.SOLVES, user_id=user.id)
    for dojo in dojos:
        jobs += affected(Input.SOLVES, dojo_id=dojo.dojo_id, user_id=user.id)
    return named(jobs)


def after_solve(user: User, *dojos: Dojo) -> set[str]:
    """The jobs that were completed after a user without a tag solved something."""
    return of_dojos(*dojos) | {Activity(user.id).name}


def after_change(*dojos: Dojo) -> set[str]:
    """The jobs that the event of a changed dojo enqueues."""
    return of_dojos(*dojos) | named([Emojis()])


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
