"""The names of the jobs that changes make necessary."""

from collections.abc import Iterable

from statsd.calculators.activity import Activity
from statsd.calculators.belts import Belts
from statsd.calculators.catalog import of_dojo
from statsd.calculators.crews import Crews
from statsd.calculators.emojis import Emojis
from statsd.job import Job
from tests.support.webapp import Dojo, User


def named(jobs: Iterable[Job]) -> set[str]:
    return {job.name for job in jobs}


def of_dojos(*dojos: Dojo) -> set[str]:
    """Return the jobs of dojos, without crews, which are only computed if a user has a tag."""
    return named(job for dojo in dojos for job in of_dojo(dojo.dojo_id))


def after_solve(user: User, *dojos: Dojo) -> set[str]:
    """Return the jobs of a solve by a user without a tag, in these dojos."""
    return of_dojos(*dojos) | {Activity(user.id).name}


def after_change(*dojos: Dojo) -> set[str]:
    """Return the jobs of changed dojos."""
    return of_dojos(*dojos) | named([Emojis()])


def all_of_dojos(*dojos: Dojo) -> set[str]:
    """Return all jobs of dojos, crews among them."""
    return of_dojos(*dojos) | named(Crews(dojo.dojo_id) for dojo in dojos)


def of_all(*dojos: Dojo, solvers: Iterable[User] = ()) -> set[str]:
    """Return all statistics of a site with these dojos, where `solvers` have solved something."""
    of_users = named(Activity(user.id) for user in solvers)
    return all_of_dojos(*dojos) | of_users | named([Belts(), Emojis()])
