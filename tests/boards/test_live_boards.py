"""Property: after any history boards, arrays and statistics agree with the definition."""

import random
from collections.abc import Callable
from datetime import timedelta

import pytest
import redis
import sqlalchemy as sa
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators.dojo_arrays import Exports
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.user_entries import UserEntries
from statsd.consistency.compare import Comparison
from statsd.jobs.pending import PendingJob
from statsd.servers.database import Database
from tests.oracles.histories import History
from tests.oracles.stored_boards import check, check_live, world_of
from tests.support.daemon_parts import Parts
from tests.support.webapp import Challenge, DojoChallenge, Membership, Module, User, WebApp, now
from tests.support.workers import Workers

HISTORIES, STEPS = 6, 40
AGES = [timedelta(minutes=minutes) for minutes in (0, 1, 2, 3, 60, 24 * 60, 7 * 24 * 60 - 60)]
AGES += [timedelta(days=days) for days in (7, 8, 29, 31, 60, 400)]


class RandomHistory(History):
    """An application with random changes of every sort."""

    def __init__(self, webapp: WebApp, chance: random.Random) -> None:
        super().__init__(webapp, chance, AGES)
        self.users = [webapp.create_user() for _ in range(6)]
        self.users += [webapp.create_user(name=f"member {i} [x]") for i in range(3)]
        self.flickering: int | None = None
        self.dojos = [
            webapp.create_dojo(4),
            webapp.create_dojo(4, data={"type": "course"}),
            webapp.create_dojo(3, official=True),
        ]
        for dojo in self.dojos:  # one more module, with a challenge of the first dojo
            webapp.add(Module(dojo_id=dojo.dojo_id, module_index=1, id="n", name="Module"))
            webapp.add(self._row(dojo.dojo_id, 1, 0, webapp.challenge_ids(self.dojos[0])[0]))

    def _row(self, dojo_id: int, module: int, index: int, challenge_id: int) -> DojoChallenge:
        return DojoChallenge(
            dojo_id=dojo_id, module_index=module, challenge_index=index,
            challenge_id=challenge_id, id=f"c{index}", name=f"<{module}/{index}>", required=True,
        )  # fmt: skip

    def act(self, *, of_users: bool = False) -> None:
        """Do something; `of_users`: only changes of one user's entries."""
        own: dict[Callable[[], None], int] = {
            self.solve: 12,
            self.unsolve: 4,
            self.hide: 4,
            self.rename: 2,
        }
        others: dict[Callable[[], None], int] = {
            self.join: 3,
            self.leave: 1,
            self.restrict: 1,
            self.add_module: 1,
            self.remove_module: 1,
        }
        actions = own if of_users else own | others
        [action] = self.chance.choices(list(actions), list(actions.values()))
        action()

    def hide(self) -> None:
        """Hide or show a user; often the same user as before."""
        with self.webapp.sessions.begin() as session:
            if self.flickering is None or self.chance.random() < 0.4:
                self.flickering = self.pick(session, User).id
            user = session.get_one(User, self.flickering)
            user.hidden = not user.hidden

    def rename(self) -> None:
        with self.webapp.sessions.begin() as session:
            tag = self.chance.choice(["", "[x]", "[X]", "[y]"])
            self.pick(session, User).name = f"<{self.chance.random()}>{tag}"

    def join(self) -> None:
        with self.webapp.sessions.begin() as session:
            dojo, user = self.chance.choice(self.dojos), self.pick(session, User)
            kind = self.chance.choice(["member", "admin", "student"])
            session.merge(Membership(dojo_id=dojo.dojo_id, user_id=user.id, type=kind))

    def leave(self) -> None:
        with self.webapp.sessions.begin() as session:
            if membership := self.pick(session, Membership):
                session.delete(membership)

    def restrict(self) -> None:
        with self.webapp.sessions.begin() as session:
            self.pick(session, DojoChallenge).required = self.chance.random() < 0.7

    def add_module(self) -> None:
        with self.webapp.sessions.begin() as session:
            dojo = self.chance.choice(self.dojos)
            challenge = self.pick(session, Challenge)
            if session.get(Module, (dojo.dojo_id, 2)) is None:
                session.add(Module(dojo_id=dojo.dojo_id, module_index=2, id="o", name="Module"))
                session.flush()
                session.add(self._row(dojo.dojo_id, 2, 0, challenge.id))

    def remove_module(self) -> None:
        with self.webapp.sessions.begin() as session:
            module = session.get(Module, (self.chance.choice(self.dojos).dojo_id, 2))
            if module is not None:
                session.execute(
                    sa.delete(DojoChallenge).filter_by(dojo_id=module.dojo_id, module_index=2)
                )
                session.delete(module)


@pytest.mark.usefixtures("publishing")
@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_random_histories_end_as_the_definition_says(
    async_cache: Redis, cache: "redis.Redis", snapshots: Database, webapp: WebApp, seed: int
) -> None:
    chance = random.Random(seed)
    history = RandomHistory(webapp, chance)
    workers = Workers(async_cache, snapshots, chance)
    await workers.start()
    for _ in range(STEPS):
        history.act()
        await workers.work()
        if chance.random() < 0.1:
            workers.repeat(cache)
        if chance.random() < 0.03:
            workers.lose(cache)
    await workers.finish()
    check(cache, world_of(webapp.engine))


@pytest.mark.usefixtures("publishing")
@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_user_entries_alone_keep_the_boards_correct(
    async_cache: Redis, cache: "redis.Redis", snapshots: Database, webapp: WebApp, seed: int
) -> None:
    """Rebuilds begin and end in any order; none runs at the end."""
    chance = random.Random(1000 + seed)
    history = RandomHistory(webapp, chance)
    for _ in range(STEPS):
        history.act()
    workers = Workers(async_cache, snapshots, chance)
    await workers.start()
    await workers.consume()
    for _ in range(2 * STEPS):
        history.act(of_users=True)
        await workers.work()
    while workers.is_busy:
        await workers.end()
    await workers.queue.release()
    while cache.xlen(keys.STREAM):
        await workers.consumer.step()
    await workers.answer({UserEntries.kind, DojoStats.kind, Exports.kind})
    world = world_of(webapp.engine)
    for dojo in world.dojos:
        check_live(cache, world, dojo)
    await workers.answer()
    check(cache, world)


@pytest.mark.usefixtures("publishing")
async def test_of_many_equal_dates_the_same_solves_are_the_newest_as_in_the_full_calculation(
    async_cache: Redis, snapshots: Database, webapp: WebApp
) -> None:
    """Otherwise the audit would take them for drift."""
    parts = Parts(async_cache, snapshots)
    users = [webapp.create_user() for _ in range(130)]  # as text, the newest ids come first
    dojo = webapp.create_dojo(2)
    first, second = webapp.challenge_ids(dojo)
    for user in users[:-20]:
        webapp.solve(user, first)
    for user in users[-20:]:
        webapp.solve(user, second)
    with webapp.engine.begin() as connection:
        connection.execute(sa.text("UPDATE submissions SET date = :date"), {"date": now()})
    await parts.start()
    with webapp.engine.begin() as connection:  # no event: the statistics come from the state
        solves_of_user = sa.text("DELETE FROM submissions WHERE user_id = :user")
        connection.execute(solves_of_user, {"user": users[0].id})
    await parts.queue.enqueue([PendingJob(UserEntries(dojo.dojo_id, users[0].id))])
    await parts.answer()
    result = await Comparison(async_cache, snapshots).compare(
        [DojoStats(dojo.dojo_id)], await parts.now()
    )
    assert (result.differences, result.failures) == ([], [])
