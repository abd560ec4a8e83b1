"""A daemon's parts beside an application, for tests of the search for missed solves."""

import sqlalchemy as sa
from redis.asyncio import Redis

from statsd.servers.database import Database
from tests.support.daemon_parts import Parts
from tests.support.job_names import after_solve, of_all
from tests.support.webapp import WebApp, solve_of


class Site(Parts):
    """A daemon's parts, and an application with a student and a dojo."""

    def __init__(
        self, cache: Redis, database: Database, webapp: WebApp, *, grace: float = 0
    ) -> None:
        super().__init__(cache, database, grace=grace)
        self.webapp = webapp
        self.user = webapp.create_user()
        self.dojo = webapp.create_dojo(8)
        self.challenges = webapp.challenge_ids(self.dojo)

    def empty_submissions(self) -> None:
        """Delete all submissions, and use their ids again."""
        with self.webapp.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM submissions"))
            connection.execute(sa.text("ALTER SEQUENCE submissions_id_seq RESTART"))


def of_missed(site: Site) -> set[str]:
    """Return the jobs that a solve of the student makes necessary."""
    return after_solve(site.user, site.dojo)


def of_everything(site: Site) -> set[str]:
    """Return the jobs of a reconcile."""
    return of_all(site.dojo, solvers=[site.user])


async def failed_attempts(site: Site, count: int) -> None:
    """Add submissions of the type `incorrect`, as most are."""
    attempts = []
    for _ in range(count):
        attempt = solve_of(site.user, site.challenges[0])
        attempt.type = "incorrect"
        attempts.append(attempt)
    site.webapp.add(*attempts)
