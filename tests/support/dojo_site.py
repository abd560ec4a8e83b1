"""A site with one dojo, for tests of its boards; the test itself answers pending jobs."""

from datetime import timedelta

import redis
import sqlalchemy as sa
from redis.asyncio import Redis

from statsd import keys, schema
from statsd.calculators.dojo_arrays import Boards, Exports
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.user_entries import UserEntries
from statsd.job import Job, Priority
from statsd.jobs.attempt import Answer, Attempt
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import LeaseRequest
from statsd.servers.database import Database
from tests.oracles import naive
from tests.oracles.naive import Row
from tests.oracles.stored_boards import prefix_of, value_of, world_of
from tests.support.daemon_parts import Parts
from tests.support.webapp import Dojo, Submission, User, WebApp, now

QUICK = {UserEntries.kind, DojoStats.kind}


class DojoSite(Parts):
    """A daemon's parts, and a web application with one dojo of four challenges and three users."""

    def __init__(self, cache: Redis, database: Database, webapp: WebApp) -> None:
        super().__init__(cache, database)
        self.webapp = webapp
        self.users: list[User] = [webapp.create_user() for _ in range(3)]
        self.dojo: Dojo = webapp.create_dojo(4)
        self.challenges = webapp.challenge_ids(self.dojo)
        self.whole = Boards(self.dojo.dojo_id)
        self.exports = Exports(self.dojo.dojo_id)
        self.stats = DojoStats(self.dojo.dojo_id)
        self.pointer = keys.boards(self.dojo.dojo_id)

    @property
    def row(self) -> Row:
        """The dojo's row in the database."""
        [row] = world_of(self.webapp.engine).dojos
        return row

    async def lease(self, job: Job, priority: Priority = Priority.INTERACTIVE) -> Attempt:
        """Enqueue a job and lease it."""
        await self.queue.enqueue([PendingJob(job, priority=priority)])
        attempt = (await self.queue.lease(LeaseRequest({job.kind: 1}))).attempt
        assert attempt is not None
        return attempt

    def prefix(self, cache: "redis.Redis") -> str:
        """Return the prefix of the keys of the dojo's current state."""
        return prefix_of(cache, self.dojo.dojo_id)

    async def build(self, attempt: Attempt) -> Answer:
        """Do the whole pass of a leased job: install a new state, and return the arrays."""
        return (await self.execute([self.whole], attempt))[self.whole]

    async def solve(self, user: int, challenge: int, **options: timedelta) -> None:
        """Solve a challenge and consume the events; `users` and `challenges` are counted from 0."""
        self.webapp.solve(self.users[user], self.challenges[challenge], **options)
        while await self.cache.xlen(keys.STREAM):
            await self.consumer.step()

    async def delete_solve(self, user: int, challenge: int) -> None:
        """Delete a solve and consume the events."""
        with self.webapp.sessions.begin() as session:
            own = sa.and_(
                schema.submissions.c.user_id == self.users[user].id,
                schema.submissions.c.challenge_id == self.challenges[challenge],
            )
            for solve in session.scalars(sa.select(Submission).where(own)):
                session.delete(solve)
        await accept(self)

    def check_stats(self, cache: "redis.Redis") -> None:
        """Assert that the cached statistics of the dojo agree with the definition."""
        reference = keys.reference_id(self.dojo.dojo_id, self.dojo.id, official=False)
        wanted = naive.dojo_stats(world_of(self.webapp.engine), self.row, now())
        naive.check_dojo_stats(value_of(cache, keys.dojo_stats(reference)), wanted)


async def accept(dojo_site: DojoSite) -> None:
    """Consume the published events; answer no job."""
    while await dojo_site.cache.xlen(keys.STREAM):
        await dojo_site.consumer.step()
