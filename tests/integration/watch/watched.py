"""A daemon's parts beside an application, for tests of the watch over solves."""

from redis.asyncio import Redis

from statsd.database import Database
from statsd.statistics import of_dojo
from tests.parts import Parts
from tests.webapp import Dojo, WebApp, solve_of


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


def names_of(dojo: Dojo) -> set[str]:
    return {refresh.name for refresh in of_dojo(dojo.dojo_id)}


async def failed_attempts(site: Site, count: int) -> None:
    """Most submissions are no solves."""
    attempts = []
    for _ in range(count):
        attempt = solve_of(site.user, site.challenges[0])
        attempt.type = "incorrect"
        attempts.append(attempt)
    site.webapp.add(*attempts)
