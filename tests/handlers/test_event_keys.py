"""Each event of the contract, through the stream, writes its own keys and no others."""

from datetime import timedelta
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from statsd import keys
from statsd.events import EVENT_TYPES
from statsd.servers.database import Database
from tests.support.daemon_parts import Parts
from tests.support.webapp import Award, Dojo, DojoChallenge, Module, WebApp

FROM_SOLVES = (
    "stats:dojo:{reference_id}",
)  # fmt: skip
"""The keys of a dojo that are written after each event about its rows, its solves and its users.

Arrays are written only when they change.
"""


class Site(Parts):
    """A daemon's parts, and two dojos; one user solved something in the first."""

    def __init__(self, cache: Redis, database: Database, webapp: WebApp) -> None:
        super().__init__(cache, database)
        self.webapp = webapp
        self.user, self.another = webapp.create_user(name="one [crew]"), webapp.create_user()
        self.dojo, self.other = webapp.create_dojo(), webapp.create_dojo(official=True)
        self.challenge_id = webapp.challenge_ids(self.dojo)[0]
        webapp.solve(self.user, self.challenge_id)
        webapp.add(Award(user_id=self.user.id, type="belt", name="red"))

    async def as_ofs(self) -> dict[str, bytes]:
        """The as-of of all public values, by key."""
        found = [
            key.decode().removesuffix(":updated")
            async for key in self.cache.scan_iter("stats:*:updated")
            if not key.startswith((keys.INTERNAL.encode(), keys.BOARDS.encode()))
        ]
        as_ofs: Any = await self.cache.mget([keys.updated(key) for key in found])
        return dict(zip(found, as_ofs, strict=True))

    async def written_after(self, kind: str, payload: dict[str, object]) -> set[str]:
        """Publish an event, complete its jobs, and return the keys that have a newer as-of."""
        before = await self.as_ofs()
        data = orjson.dumps({"type": kind, "payload": payload})
        await self.cache.xadd(keys.STREAM, {"data": data})
        await self.consume()
        after = await self.as_ofs()
        return {key for key in {*before, *after} if after.get(key) != before.get(key)}


@pytest.fixture
async def site(async_cache: Redis, snapshots: Database, webapp: WebApp) -> Site:
    site = Site(async_cache, snapshots, webapp)
    await site.start()
    return site


def from_solves(dojo: Dojo) -> set[str]:
    return {key.format(dojo_id=dojo.dojo_id, reference_id=dojo.reference_id) for key in FROM_SOLVES}


async def test_each_event_writes_its_own_keys_and_no_others(site: Site) -> None:
    """Nothing has changed, so no array is written."""
    user, dojo = site.user, site.dojo
    activity = {f"stats:activity:{user.id}"}
    module = {"dojo_id": dojo.dojo_id, "module_index": 0}
    solve = {"user_id": user.id, "challenge_id": site.challenge_id}
    expected: list[tuple[str, dict[str, object], set[str]]] = [
        ("challenge_solve", {**solve}, activity | from_solves(dojo)),
        ("dojo_stats_update", {"dojo_id": dojo.dojo_id}, from_solves(dojo) | {"stats:emojis"}),
        ("scoreboard_update", {"model_type": "dojo", "model_id": dojo.dojo_id}, set()),
        ("scoreboard_update", {"model_type": "module", "model_id": module}, set()),
        ("scores_update", {"dojo_id": dojo.dojo_id}, set()),
        ("scores_update", {}, set()),
        ("belts_update", {}, {"stats:belts"}),
        ("emojis_update", {}, {"stats:emojis"}),
        ("activity_update", {"user_id": user.id}, activity),
        (
            "user_update",
            {"user_id": user.id},
            {"stats:belts", "stats:emojis"} | activity | from_solves(dojo),
        ),
        ("container_stats_update", {}, {"stats:containers"}),
    ]
    assert {kind for kind, _, _ in expected} == set(EVENT_TYPES)
    for kind, payload, written in expected:
        assert await site.written_after(kind, payload) == written, kind


# --- arrays


def scopes(dojo: Dojo, *modules: int) -> list[str]:
    return [f"dojo:{dojo.dojo_id}", *(f"module:{dojo.dojo_id}:{index}" for index in modules)]


def boards(dojo: Dojo, *modules: int, days: tuple[int, ...] = (0, 7, 30)) -> set[str]:
    """The keys of scoreboards and crews of the dojo and of some modules."""
    return {
        f"stats:{sort}:{scope}:{window}"
        for sort in ("scoreboard", "crews")
        for scope in scopes(dojo, *modules)
        for window in days
    }


def scores(dojo: Dojo, *modules: int) -> set[str]:
    return {f"stats:scores:{scope}" for scope in scopes(dojo, *modules)}


def counts(dojo: Dojo, *modules: int) -> set[str]:
    return {f"stats:challenge_solves:module:{dojo.dojo_id}:{index}" for index in modules}


@pytest.fixture
async def two_modules(async_cache: Redis, snapshots: Database, webapp: WebApp) -> Site:
    """A site whose first dojo has a second module, with a challenge of its own.

    Another user, of no crew, has solved something in the first module.
    """
    site = Site(async_cache, snapshots, webapp)
    dojo_id = site.dojo.dojo_id
    webapp.solve(site.another, site.challenge_id)
    [challenge_id] = webapp.challenge_ids(webapp.create_dojo(1))
    webapp.add(Module(dojo_id=dojo_id, module_index=1, id="second", name="second"))
    row = {"module_index": 1, "challenge_index": 0, "id": "own", "challenge_id": challenge_id}
    webapp.add(DojoChallenge(dojo_id=dojo_id, **row))
    site.challenge_id = challenge_id
    await site.start()
    return site


def arrays_in(written: set[str], dojo: Dojo) -> set[str]:
    """Return the keys of a dojo's arrays out of those that were written."""
    of_dojo = {key for key in written if f":{dojo.dojo_id}:" in f"{key}:"}
    return of_dojo - from_solves(dojo)


async def written_by_solve(site: Site, days_ago: int) -> set[str]:
    """Solve the challenge of the second module; return the keys of arrays written in the dojo."""
    site.webapp.solve(site.another, site.challenge_id, ago=timedelta(days=days_ago))
    written = await site.written_after(
        "challenge_solve", {"user_id": site.another.id, "challenge_id": site.challenge_id}
    )
    return arrays_in(written, site.dojo)


@pytest.mark.parametrize(
    ("days_ago", "days"), [(0, (0, 7, 30)), (10, (0, 30)), (100, (0,))], ids=str
)
async def test_a_solve_writes_the_arrays_of_its_dojo_and_module_and_windows(
    two_modules: Site, days_ago: int, days: tuple[int, ...]
) -> None:
    site, dojo = two_modules, two_modules.dojo
    written = await written_by_solve(site, days_ago)
    expected = boards(dojo, 1, days=days) | scores(dojo, 1) | counts(dojo, 1)
    assert written == expected


async def test_a_solve_of_an_optional_challenge_writes_the_counts_of_its_module(
    two_modules: Site,
) -> None:
    """Crews list only challenges that are required."""
    site, dojo = two_modules, two_modules.dojo
    with site.webapp.sessions.begin() as session:
        session.get_one(DojoChallenge, (dojo.dojo_id, 1, 0)).required = False
    await site.written_after("dojo_stats_update", {"dojo_id": dojo.dojo_id})
    assert await written_by_solve(site, 0) == counts(dojo, 1)


async def test_another_name_writes_the_boards_that_the_user_is_on(two_modules: Site) -> None:
    site, dojo = two_modules, two_modules.dojo
    with site.webapp.sessions.begin() as session:
        session.merge(site.user).name = "another [crew]"
    written = await site.written_after("user_update", {"user_id": site.user.id})
    assert arrays_in(written, dojo) == boards(dojo, 0)


async def test_a_hidden_user_leaves_the_boards_and_the_counts_and_keeps_the_scores(
    two_modules: Site,
) -> None:
    site, dojo = two_modules, two_modules.dojo
    with site.webapp.sessions.begin() as session:
        session.merge(site.user).hidden = True
    written = await site.written_after("user_update", {"user_id": site.user.id})
    assert arrays_in(written, dojo) == boards(dojo, 0) | counts(dojo, 0)
