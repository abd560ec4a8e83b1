"""The jobs that each type of event enqueues, through the stream, and the values they write."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import redis
import sqlalchemy as sa
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators.dojo_arrays import Boards, Exports
from statsd.calculators.dojo_check import DojoCheck, RecordsCheck
from statsd.calculators.user_entries import UserEntries
from statsd.client import Publisher, listen
from statsd.dev import embedded
from statsd.job import Job, Priority
from statsd.servers.database import Database
from tests.support.daemon_parts import Parts
from tests.support.job_names import after_change, after_solve, of_solve
from tests.support.webapp import Dojo, DojoChallenge, Membership, Module, User, WebApp

NOBODY = 2**31 - 1
AWARDS = {"belts", "emojis"}


class Site(Parts):
    """A daemon's parts, and an application with three dojos; one user solved in the first."""

    def __init__(self, cache: Redis, database: Database, webapp: WebApp) -> None:
        super().__init__(cache, database)
        self.webapp = webapp
        self.user = webapp.create_user()
        self.dojo = webapp.create_dojo()
        self.other = webapp.create_dojo(official=True, data=None)
        self.private = webapp.create_dojo(data={"type": "course"})
        self.challenges = webapp.challenge_ids(self.dojo)
        webapp.solve(self.user, self.challenges[0])

    async def stale_after(self, kind: str, **payload: object) -> set[str]:
        """Publish an event, accept it, and return the jobs that are pending for it."""
        await self.accept(kind, **payload)
        pending = await self.pending()
        await self.answer()
        return {*pending}

    async def pending(self) -> dict[str, Priority]:
        """Return the classes of the pending jobs."""
        pending: dict[str, Priority] = {}
        for priority in Priority:
            names: Any = await self.cache.zrange(keys.due(priority), 0, -1)
            pending |= {name.decode(): priority for name in names}
        return pending

    async def after(self, kind: type[Job]) -> dict[str, Priority]:
        """Answer the pending jobs of one kind; return the jobs that are pending then."""
        await self.answer({kind.kind})
        return await self.pending()

    async def publish(self, kind: str, **payload: object) -> None:
        data = orjson.dumps({"type": kind, "payload": payload})
        await self.cache.xadd(keys.STREAM, {"data": data})

    async def accept(self, kind: str, **payload: object) -> None:
        await self.publish(kind, **payload)
        while await self.cache.xlen(keys.STREAM):
            await self.consumer.step()

    async def pending_again(self) -> set[str]:
        """Return the jobs that are enqueued once more, after a delay."""
        delayed: Any = await self.cache.zrange(keys.DELAYED, 0, -1)
        return {entry.decode().split("|")[2] for entry in delayed}

    async def value(self, key: str) -> Any:
        raw: Any = await self.cache.get(key)
        return None if raw is None else orjson.loads(raw)

    async def keys_of(self, dojo: Dojo) -> set[bytes]:
        found: Any = await self.cache.keys(f"stats:*:{dojo.dojo_id}*")
        return {key for key in found if b":internal:" not in key}


@pytest.fixture
async def site(async_cache: Redis, snapshots: Database, webapp: WebApp) -> Site:
    site = Site(async_cache, snapshots, webapp)
    await site.start()
    return site


@pytest.fixture
def publishing(site: Site, redis_server: embedded.Redis) -> Iterator[None]:
    """Let the application publish what it commits, once the cache is filled."""
    publisher = Publisher.from_url(redis_server.url)
    forget = listen(site.webapp.sessions, publisher)
    yield
    forget()
    publisher.close()


# --- events


def add_row(site: Site, dojo: Dojo, *, required: bool | None) -> None:
    """Put the challenge that the user solved into another dojo, too."""
    site.webapp.add(
        DojoChallenge(
            dojo_id=dojo.dojo_id,
            module_index=0,
            challenge_index=9,
            id="same",
            challenge_id=site.challenges[0],
            required=required,
        )
    )


async def test_a_solve_concerns_the_dojos_that_have_the_challenge(site: Site) -> None:
    """Also dojos that do not require it, since they count the solves of their challenges."""
    add_row(site, site.other, required=False)
    add_row(site, site.private, required=None)
    without = site.webapp.create_dojo()
    solve = {"user_id": site.user.id, "challenge_id": site.challenges[0]}
    stale = await site.stale_after("challenge_solve", **solve)
    assert stale == of_solve(site.user, site.dojo, site.other, site.private)
    assert not any(str(without.dojo_id) in name for name in stale)
    assert await site.pending_again() == set()


async def test_a_solve_that_changes_arrays_enqueues_their_exports(site: Site) -> None:
    await site.answer()
    site.webapp.solve(site.user, site.challenges[1])
    solve = {"user_id": site.user.id, "challenge_id": site.challenges[1]}
    exports = Exports(site.dojo.dojo_id).name
    await site.accept("challenge_solve", **solve)
    assert exports in await site.after(UserEntries)
    stale = after_solve(site.user, site.dojo)
    assert await site.answer() == stale
    await site.accept("challenge_solve", **solve)  # again: nothing changes
    assert exports not in await site.after(UserEntries)
    assert await site.answer() == stale


async def test_the_jobs_of_a_solve_before_its_commit_are_enqueued_twice(site: Site) -> None:
    solve = {"user_id": site.user.id, "challenge_id": site.challenges[1]}
    stale = await site.stale_after("challenge_solve", **solve)
    assert stale == await site.pending_again() == of_solve(site.user, site.dojo)


async def test_a_changed_dojo_concerns_all_of_it(site: Site) -> None:
    changed = await site.stale_after("dojo_stats_update", dojo_id=site.dojo.dojo_id)
    assert changed == await site.pending_again() == after_change(site.dojo)


async def test_scoreboards_of_a_dojo_or_a_module_are_a_check_of_the_dojo(site: Site) -> None:
    """Such an event says nothing about what changed."""
    dojo_id = site.dojo.dojo_id
    module = {"dojo_id": dojo_id, "module_index": 0}
    for model_type, model_id in (("dojo", dojo_id), ("module", module)):
        stale = await site.stale_after(
            "scoreboard_update", model_type=model_type, model_id=model_id
        )
        assert stale == await site.pending_again() == {DojoCheck(dojo_id).name}


async def test_scores_of_a_dojo_are_a_check_of_it(site: Site) -> None:
    stale = await site.stale_after("scores_update", dojo_id=site.dojo.dojo_id)
    assert stale == await site.pending_again() == {DojoCheck(site.dojo.dojo_id).name}


async def test_scores_of_no_dojo_are_a_check_of_all_dojos_with_scores(site: Site) -> None:
    expected = {DojoCheck(dojo.dojo_id).name for dojo in (site.dojo, site.other)}
    assert await site.stale_after("scores_update") == expected
    assert await site.pending_again() == expected


async def told_by_old_events(site: Site, dojo: Dojo) -> None:
    """Accept all events with which producers tell of any change of a dojo with one module."""
    dojo_id = dojo.dojo_id
    module = {"dojo_id": dojo_id, "module_index": 0}
    await site.publish("dojo_stats_update", dojo_id=dojo_id)
    await site.publish("scoreboard_update", model_type="dojo", model_id=dojo_id)
    await site.publish("scoreboard_update", model_type="module", model_id=module)
    await site.accept("scores_update", dojo_id=dojo_id)


async def test_the_events_about_an_unchanged_dojo_cause_no_whole_pass(site: Site) -> None:
    dojo_id = site.dojo.dojo_id
    await told_by_old_events(site, site.dojo)
    assert set(await site.pending()) == after_change(site.dojo)
    left = after_change(site.dojo) - {DojoCheck(dojo_id).name}
    assert set(await site.after(DojoCheck)) == left | {RecordsCheck(dojo_id, 0).name}
    assert await site.answer() == left


async def test_a_new_member_concerns_the_entries_of_that_user_alone(site: Site) -> None:
    member = site.webapp.create_user()
    dojo_id = site.private.dojo_id
    site.webapp.solve(member, site.webapp.challenge_ids(site.private)[0])
    site.webapp.add(Membership(dojo_id=dojo_id, user_id=member.id, type="member"))
    await told_by_old_events(site, site.private)
    found = await site.after(DojoCheck)
    assert UserEntries(dojo_id, member.id).name in found
    assert RecordsCheck(dojo_id, 0).name in found
    assert Boards(dojo_id).name not in await site.after(RecordsCheck)
    await site.answer()
    assert await site.value(keys.scoreboard(dojo_id)) == [entry(member, 1)]


async def test_a_solve_that_no_event_told_of_is_found_by_a_check(site: Site) -> None:
    dojo_id = site.dojo.dojo_id
    site.webapp.solve(site.user, site.challenges[1])
    await site.accept("scores_update", dojo_id=dojo_id)
    await site.answer({DojoCheck.kind})
    assert set(await site.after(RecordsCheck)) == {UserEntries(dojo_id, site.user.id).name}
    await site.answer()
    assert (await site.value(keys.scores(dojo_id)))["solves"] == {str(site.user.id): 2}


async def test_another_structure_causes_a_whole_pass(site: Site) -> None:
    with site.webapp.sessions.begin() as session:
        session.get_one(DojoChallenge, (site.dojo.dojo_id, 0, 0)).required = False
    await told_by_old_events(site, site.dojo)
    found = await site.after(DojoCheck)
    assert found[Boards(site.dojo.dojo_id).name] is Priority.INTERACTIVE
    assert Boards(site.dojo.dojo_id).name in await site.answer()
    assert await site.value(keys.scoreboard(site.dojo.dojo_id)) == []


async def test_a_changed_user_concerns_the_dojos_in_which_they_solved(site: Site) -> None:
    stale = await site.stale_after("user_update", user_id=site.user.id)
    assert stale == await site.pending_again() == of_solve(site.user, site.dojo) | AWARDS


@pytest.mark.parametrize("required", [True, False, None])
async def test_a_changed_user_concerns_the_dojos_that_do_not_require_the_solve(
    site: Site, required: bool | None
) -> None:
    add_row(site, site.other, required=required)
    stale = await site.stale_after("user_update", user_id=site.user.id)
    assert stale == of_solve(site.user, site.dojo, site.other) | AWARDS


async def test_a_changed_user_concerns_the_dojos_of_their_memberships(site: Site) -> None:
    site.webapp.add(Membership(dojo_id=site.private.dojo_id, user_id=site.user.id, type="member"))
    stale = await site.stale_after("user_update", user_id=site.user.id)
    assert stale == of_solve(site.user, site.dojo, site.private) | AWARDS


async def test_a_deleted_user_concerns_their_entries_in_all_dojos(site: Site) -> None:
    stale = await site.stale_after("user_update", user_id=NOBODY)
    gone = User(id=NOBODY)
    assert stale == of_solve(gone, site.dojo, site.other, site.private) | AWARDS
    assert stale == await site.pending_again()


async def test_a_deleted_user_changes_nothing_for_others_of_the_same_batch(site: Site) -> None:
    gone = User(id=NOBODY)
    await site.publish("user_update", user_id=NOBODY)
    stale = await site.stale_after("user_update", user_id=site.user.id)
    of_gone = of_solve(gone, site.dojo, site.other, site.private)
    assert stale == of_gone | of_solve(site.user, site.dojo) | AWARDS


@pytest.mark.parametrize(
    ("kind", "payload", "stale"),
    [
        ("belts_update", {}, "belts"),
        ("emojis_update", {}, "emojis"),
        ("activity_update", {"user_id": 1}, "activity:1"),
        ("container_stats_update", {}, "containers"),
        ("challenge_solve", {"user_id": 1, "challenge_id": NOBODY}, "activity:1"),
    ],
)
async def test_an_event_that_concerns_no_dojo_is_one_job(
    site: Site, kind: str, payload: dict[str, int], stale: str
) -> None:
    assert await site.stale_after(kind, **payload) == {stale}
    assert await site.pending_again() == {stale}


async def test_large_values_are_in_a_less_urgent_class(site: Site) -> None:
    site.webapp.solve(site.user, site.challenges[1])
    solve = {"user_id": site.user.id, "challenge_id": site.challenges[1]}
    await site.accept("challenge_solve", **solve)
    assert await site.after(UserEntries) == {
        f"activity:{site.user.id}": Priority.EXPORT,
        f"dojo_stats:{site.dojo.dojo_id}": Priority.INTERACTIVE,
        f"exports:{site.dojo.dojo_id}": Priority.EXPORT,
    }


# --- values


def entry(user: User, solves: int) -> dict[str, object]:
    return {
        "rank": 1,
        "solves": solves,
        "user_id": user.id,
        "name": user.name,
        "email": user.email,
    }


@pytest.mark.usefixtures("publishing")
async def test_a_solve_is_in_every_value(site: Site) -> None:
    dojo_id, user_id = site.dojo.dojo_id, str(site.user.id)
    site.webapp.solve(site.user, site.challenges[1])
    await site.consume()
    for module_index in (None, 0):
        for days in (0, 7, 30):
            board = await site.value(keys.scoreboard(dojo_id, module_index, days))
            assert board == [entry(site.user, 2)]
        score = await site.value(keys.scores(dojo_id, module_index))
        assert score == {"ranks": [site.user.id], "solves": {user_id: 2}}
    counts = await site.value(keys.challenge_solves(dojo_id, 0))
    assert counts == dict.fromkeys(map(str, site.challenges[:2]), 1)


@pytest.mark.usefixtures("publishing")
async def test_a_solve_of_an_optional_challenge_counts_for_its_challenge_alone(site: Site) -> None:
    dojo_id, challenge_id = site.dojo.dojo_id, site.challenges[1]
    with site.webapp.sessions.begin() as session:
        session.get_one(DojoChallenge, (dojo_id, 0, 1)).required = False
    site.webapp.solve(site.user, challenge_id)
    await site.consume()
    counts = await site.value(keys.challenge_solves(dojo_id, 0))
    assert counts == dict.fromkeys(map(str, site.challenges[:2]), 1)
    assert await site.value(keys.scoreboard(dojo_id)) == [entry(site.user, 1)]
    assert (await site.value(keys.scores(dojo_id)))["solves"] == {str(site.user.id): 1}


@pytest.mark.usefixtures("publishing")
async def test_a_renamed_user_has_the_new_name(site: Site) -> None:
    with site.webapp.sessions.begin() as session:
        user = session.merge(site.user)
        user.name, user.email = "[x] <b>näme</b>\u202e", None
    await site.consume()
    board = await site.value(keys.scoreboard(site.dojo.dojo_id))
    assert board == [entry(user, 1)]


@pytest.mark.usefixtures("publishing")
async def test_a_hidden_user_is_on_no_scoreboard_and_keeps_the_score(site: Site) -> None:
    dojo_id = site.dojo.dojo_id
    with site.webapp.sessions.begin() as session:
        session.merge(site.user).hidden = True
    await site.consume()
    assert await site.value(keys.scoreboard(dojo_id, 0)) == []
    assert await site.value(keys.challenge_solves(dojo_id, 0)) == {}
    assert (await site.value(keys.scores(dojo_id)))["ranks"] == [site.user.id]


@pytest.mark.usefixtures("publishing")
async def test_a_deleted_user_is_nowhere(site: Site) -> None:
    dojo_id = site.dojo.dojo_id
    site.webapp.delete([site.user])
    await site.consume()
    assert await site.value(keys.scoreboard(dojo_id)) == []
    assert await site.value(keys.challenge_solves(dojo_id, 0)) == {}
    assert await site.value(keys.scores(dojo_id, 0)) == {"ranks": [], "solves": {}}


async def test_solves_that_outlive_their_user_count_only_for_scores(site: Site) -> None:
    """A database may keep them; ours takes them along."""
    dojo_id = site.dojo.dojo_id
    with site.webapp.engine.begin() as connection:
        for statement in (
            "ALTER TABLE submissions DROP CONSTRAINT submissions_user_id_fkey",
            f"DELETE FROM users WHERE id = {site.user.id}",
        ):
            connection.execute(sa.text(statement))
    await site.stale_after("user_update", user_id=site.user.id)
    assert await site.value(keys.scoreboard(dojo_id)) == []
    assert await site.value(keys.challenge_solves(dojo_id, 0)) == {}
    assert (await site.value(keys.scores(dojo_id)))["ranks"] == [site.user.id]


@pytest.mark.usefixtures("publishing")
async def test_the_keys_of_a_deleted_dojo_go_and_no_others(site: Site) -> None:
    before = await site.keys_of(site.other)
    site.webapp.delete([site.dojo])
    await site.consume()
    assert await site.keys_of(site.dojo) == set()
    assert await site.keys_of(site.other) == before


@pytest.mark.usefixtures("publishing")
async def test_the_keys_of_a_deleted_module_go_and_the_dojo_follows(site: Site) -> None:
    dojo_id = site.dojo.dojo_id
    with site.webapp.sessions.begin() as session:
        session.delete(session.get_one(Module, (dojo_id, 0)))
    await site.consume()
    left: Any = await site.cache.keys(f"stats:*:module:{dojo_id}:*")
    assert left == []
    assert await site.value(keys.scoreboard(dojo_id)) == []
    assert await site.value(keys.scores(dojo_id)) == {"ranks": [], "solves": {}}


@pytest.mark.usefixtures("publishing")
async def test_a_dojo_that_becomes_private_loses_its_scores(
    site: Site, cache: "redis.Redis"
) -> None:
    dojo_id = site.dojo.dojo_id
    with site.webapp.sessions.begin() as session:
        session.merge(site.dojo).data = {"type": "course"}
    await site.consume()
    assert cache.keys(f"stats:scores:*{dojo_id}*") == []
    assert await site.value(keys.scoreboard(dojo_id)) == []  # the solver is no member
