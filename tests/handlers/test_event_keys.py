"""Each event of the contract, through the stream, writes its own keys and no others."""

from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from statsd import keys
from statsd.events import EVENT_TYPES
from statsd.servers.database import Database
from tests.support.daemon_parts import Parts
from tests.support.webapp import Award, Dojo, WebApp

FROM_SOLVES = (
    "stats:challenge_solves:module:{dojo_id}:0",
    "stats:scores:dojo:{dojo_id}",
    "stats:scores:module:{dojo_id}:0",
)
"""The keys of a dojo that depend on its rows, its solves and its users."""


class Site(Parts):
    """A daemon's parts, and two dojos; one user solved something in the first."""

    def __init__(self, cache: Redis, database: Database, webapp: WebApp) -> None:
        super().__init__(cache, database)
        self.user = webapp.create_user(name="one [crew]")
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


def boards(dojo: Dojo, sort: str) -> set[str]:
    scopes = [f"dojo:{dojo.dojo_id}", f"module:{dojo.dojo_id}:0"]
    return {f"stats:{sort}:{scope}:{days}" for scope in scopes for days in (0, 7, 30)}


def scores(dojo: Dojo) -> set[str]:
    return {f"stats:scores:dojo:{dojo.dojo_id}", f"stats:scores:module:{dojo.dojo_id}:0"}


def stats(dojo: Dojo) -> set[str]:
    return {f"stats:dojo:{dojo.reference_id}"}


def counts(dojo: Dojo) -> set[str]:
    return {f"stats:challenge_solves:module:{dojo.dojo_id}:0"}


def from_solves(dojo: Dojo) -> set[str]:
    return {key.format(dojo_id=dojo.dojo_id) for key in FROM_SOLVES}


async def test_each_event_writes_its_own_keys_and_no_others(site: Site) -> None:
    """Keys that follow from the same boards, or come from the same pass, are written too."""
    user, dojo, other = site.user, site.dojo, site.other
    activity = {f"stats:activity:{user.id}"}
    from_boards = stats(dojo) | boards(dojo, "crews")
    module = {"dojo_id": dojo.dojo_id, "module_index": 0}
    solve = {"user_id": user.id, "challenge_id": site.challenge_id}
    whole = boards(dojo, "scoreboard") | from_boards | from_solves(dojo)
    expected: list[tuple[str, dict[str, object], set[str]]] = [
        # The solve is on the boards already, so they do not change, nor do the scoreboards.
        ("challenge_solve", {**solve}, activity | from_boards | from_solves(dojo)),
        ("dojo_stats_update", {"dojo_id": dojo.dojo_id}, whole | {"stats:emojis"}),
        (
            "scoreboard_update",
            {"model_type": "dojo", "model_id": dojo.dojo_id},
            boards(dojo, "scoreboard") | from_boards,
        ),
        (
            "scoreboard_update",
            {"model_type": "module", "model_id": module},
            boards(dojo, "scoreboard") | from_boards | counts(dojo),
        ),
        ("scores_update", {"dojo_id": dojo.dojo_id}, scores(dojo)),
        ("scores_update", {}, scores(dojo) | scores(other)),
        ("belts_update", {}, {"stats:belts"}),
        ("emojis_update", {}, {"stats:emojis"}),
        ("activity_update", {"user_id": user.id}, activity),
        (
            "user_update",
            {"user_id": user.id},
            {"stats:belts", "stats:emojis"} | activity | from_boards | from_solves(dojo),
        ),
        ("container_stats_update", {}, {"stats:containers"}),
    ]
    assert {kind for kind, _, _ in expected} == set(EVENT_TYPES)
    for kind, payload, written in expected:
        assert await site.written_after(kind, payload) == written, kind
