"""The property: whatever happens, awards and activity end as the definition says."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from statsd.servers.database import Database
from tests.oracles import naive_awards
from tests.oracles.histories import History
from tests.oracles.stored_boards import value_of, world_of
from tests.support.webapp import Award, Dojo, User, WebApp, now
from tests.support.workers import Workers

HISTORIES, STEPS = 6, 60
AGES = [timedelta(days=days) for days in (0, 1, 364, 366)]


class Site(History):
    """An application in which users are awarded something, and dojos change."""

    def __init__(self, webapp: WebApp, chance: random.Random) -> None:
        super().__init__(webapp, chance, AGES)
        for i in range(6):
            webapp.create_user(website=f"https://example.com/{i}")
        self.dojos = [
            webapp.create_dojo(3, data={"type": kind, "award": {"emoji": "🧪"}})
            for kind in ("public", "course", "example")
        ]

    def act(self) -> None:
        actions: dict[Callable[[], None], int] = {
            self.award: 8,
            self.change_award: 3,
            self.revoke: 3,
            self.change_user: 4,
            self.delete_user: 1,
            self.change_dojo: 3,
            self.delete_dojo: 1,
            self.solve: 6,
            self.unsolve: 2,
        }
        [action] = self.chance.choices(list(actions), list(actions.values()))
        action()

    def award(self) -> None:
        with self.webapp.sessions.begin() as session:
            if user := self.pick(session, User):
                session.add(Award(user_id=user.id, **self._columns()))

    def _columns(self) -> dict[str, Any]:
        kind = self.chance.choice(["belt", "emoji", "emoji", "other"])
        names = ["blue", "red", "black"] if kind == "belt" else ["CURRENT", "CUSTOM", "STALE"]
        categories = [f"{dojo.dojo_id % 2**32:08x}" for dojo in self.dojos]
        return {
            "type": kind,
            "name": self.chance.choice(names),
            "description": self.chance.choice(["<one>", None]),
            "date": now() - self.chance.choice(AGES),
            "category": self.chance.choice([*categories, None]),
            "icon": self.chance.choice(["🧪", "🐉"]),
        }

    def change_award(self) -> None:
        with self.webapp.sessions.begin() as session:
            if award := self.pick(session, Award):
                for column, value in self._columns().items():
                    setattr(award, column, value)

    def revoke(self) -> None:
        with self.webapp.sessions.begin() as session:
            if award := self.pick(session, Award):
                session.delete(award)

    def change_user(self) -> None:
        with self.webapp.sessions.begin() as session:
            if user := self.pick(session, User):
                column, value = self.chance.choice(
                    [
                        ("hidden", not user.hidden),
                        ("name", f"<{self.chance.random()}>"),
                        ("website", None),
                    ]
                )
                setattr(user, column, value)

    def delete_user(self) -> None:
        with self.webapp.sessions.begin() as session:
            if user := self.pick(session, User):
                session.delete(user)

    def change_dojo(self) -> None:
        with self.webapp.sessions.begin() as session:
            if dojo := self.pick(session, Dojo):
                column, value = self.chance.choice(
                    [
                        ("official", not dojo.official),
                        ("id", f"d{self.chance.randrange(100)}"),
                        ("data", {"type": "public", "award": {"emoji": "🐉"}}),
                        ("data", {"type": "course", "award": {"belt": "red"}}),
                    ]
                )
                setattr(dojo, column, value)

    def delete_dojo(self) -> None:
        with self.webapp.sessions.begin() as session:
            if dojo := self.pick(session, Dojo):
                session.delete(dojo)


@pytest.mark.usefixtures("publishing")
@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_histories_end_as_the_definition_says(
    async_cache: Redis, cache: "redis.Redis", snapshots: Database, webapp: WebApp, seed: int
) -> None:
    chance = random.Random(seed)
    site = Site(webapp, chance)
    workers = Workers(async_cache, snapshots, chance)
    await workers.start()
    for _ in range(STEPS):
        site.act()
        await workers.work()
        if chance.random() < 0.1:
            workers.repeat(cache)
    await workers.finish()
    world = world_of(webapp.engine)
    wanted = naive_awards.site(world, now())
    assert {key: value_of(cache, key) or naive_activity_of_nobody(key) for key in wanted} == wanted
    users = {f"stats:activity:{user['id']}" for user in world.users}
    found = {key.decode() for key in cache.scan_iter("stats:activity:*")}
    assert {key for key in found if not key.endswith(":updated")} <= users


def naive_activity_of_nobody(key: str) -> Any:
    """A user without solves has no key, or an empty list."""
    empty = {"solve_timestamps": [], "total_solves": 0}
    return empty if key.startswith("stats:activity:") else None
