"""The audit finds values that no event will correct, and leaves changes under way alone."""

from datetime import UTC, timedelta
from typing import Any

import orjson
import pytest
import redis
import sqlalchemy as sa
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators import dojo_stats
from statsd.calculators.activity import Activity
from statsd.calculators.dojo_arrays import Boards
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.user_entries import UserEntries
from statsd.consistency import drift_audit
from statsd.consistency.drift_audit import DriftAudit
from statsd.job import Priority
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import LeaseRequest
from statsd.servers.database import Database
from tests.oracles.stored_boards import prefix_of
from tests.support.daemon_parts import Parts
from tests.support.job_names import (
    all_of_dojos,
    changed_by_solve,
    jobs_of_dojo,
    listed,
    not_listed,
    of_all,
    of_dojos,
)
from tests.support.webapp import Dojo, WebApp, now


class Site(Parts):
    """A daemon's parts, and an application that publishes nothing, with a few dojos."""

    def __init__(
        self, cache: Redis, database: Database, webapp: WebApp, *, refill: bool = True
    ) -> None:
        super().__init__(cache, database, refill=refill)
        self.webapp = webapp
        self.user = webapp.create_user()
        self.dojos = [webapp.create_dojo() for _ in range(3)]

    def solve(self, dojo: Dojo) -> None:
        self.webapp.solve(self.user, self.webapp.challenge_ids(dojo)[0])

    async def publish(self, dojo: Dojo) -> None:
        """Publish events about the dojo, and about the user, who may have a solve there."""
        for kind, payload in (
            ("dojo_stats_update", {"dojo_id": dojo.dojo_id}),
            ("activity_update", {"user_id": self.user.id}),
        ):
            data = orjson.dumps({"type": kind, "payload": payload})
            await self.cache.xadd(keys.STREAM, {"data": data})

    async def solves(self, dojo: Dojo) -> int:
        raw: Any = await self.cache.get(keys.dojo_stats(dojo.reference_id))
        return int(orjson.loads(raw)["solves"])

    async def slug_of(self, dojo: Dojo) -> str:
        """Read the slug as a calculator does."""
        async with self.database.snapshot() as snapshot:
            wanted = dojo_stats.parameters([DojoStats(dojo.dojo_id)], now())
            [row] = await snapshot.rows(dojo_stats.DOJOS, wanted)
            return str(row.id)

    async def judge(self) -> set[str]:
        """Compare; return the names of drifted values, whose jobs stay pending."""
        await self.queue.enqueue([PendingJob(DriftAudit())])
        await self.answer({DriftAudit.kind})
        names: Any = await self.cache.zrange(keys.due(Priority.ORDINARY), 0, -1)
        return {name.decode() for name in names}

    async def suspects(self) -> set[str]:
        return set((await self.audit_state()).suspects)


@pytest.fixture(autouse=True)
def one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare all values in one step."""
    monkeypatch.setattr(drift_audit, "PAGE", 100)
    monkeypatch.setattr(drift_audit, "LONGEST_WALK", 60.0)


@pytest.fixture
async def site(async_cache: Redis, snapshots: Database, webapp: WebApp) -> Site:
    site = Site(async_cache, snapshots, webapp)
    await site.start()
    return site


def name_of(dojo: Dojo) -> str:
    return DojoStats(dojo.dojo_id).name


def names_of_boards(*dojos: Dojo) -> set[str]:
    """Return the jobs of dojos' statistics, and of the states that these may follow from."""
    return {name_of(dojo) for dojo in dojos} | {Boards(dojo.dojo_id).name for dojo in dojos}


async def test_right_values_are_no_suspects(site: Site) -> None:
    for _ in range(3):
        assert await site.audit() == set()
    state = await site.audit_state()
    assert (state.compared, state.rounds) == (3 * len(of_all(*site.dojos)), 3)
    assert (state.suspects, state.drift) == ({}, {})


async def test_a_change_without_an_event_is_found_counted_and_corrected(site: Site) -> None:
    first, *_ = site.dojos
    site.solve(first)
    assert await site.audit() == set()
    assert {*listed(await site.suspects())} == changed_by_solve(site.user, first)
    assert {*listed(await site.audit())} == changed_by_solve(site.user, first)
    assert await site.solves(first) == 1
    assert await site.audit() == set()
    state = await site.audit_state()
    kinds = ["activity", "boards", "dojo_stats"]
    assert sorted(listed(state.drift)) == kinds
    assert (state.suspects, {*state.drift.values()}) == ({}, {1})


async def test_a_dojo_created_and_deleted_before_it_was_computed_is_no_drift(
    site: Site,
) -> None:
    dojo = site.webapp.create_dojo()
    assert await site.audit() == set()
    assert await site.suspects() == all_of_dojos(dojo)
    site.webapp.delete([dojo])
    assert await site.audit() == set()
    state = await site.audit_state()
    assert (state.suspects, state.drift) == ({}, {})


async def test_an_event_that_is_not_accepted_yet_is_waited_for(site: Site) -> None:
    first, *_ = site.dojos
    site.solve(first)
    await site.publish(first)
    for _ in range(3):
        assert await site.audit() == set()
        assert {*listed(await site.suspects())} == changed_by_solve(site.user, first)
    await site.consume()
    assert await site.audit() == set()
    state = await site.audit_state()
    assert (state.suspects, state.drift) == ({}, {})


async def test_pending_jobs_are_waited_for(site: Site) -> None:
    """For example a job with a delayed retry."""
    first, *_ = site.dojos
    site.solve(first)
    listed_jobs = (*jobs_of_dojo(first.dojo_id), Activity(site.user.id))
    for job in (*listed_jobs, *not_listed(site.user, first)):
        await site.queue.enqueue([PendingJob(job)])
        attempt = (await site.queue.lease(LeaseRequest({job.kind: 1}))).attempt
        assert attempt is not None
        await site.queue.fail(attempt, [3600.0], {"error": "no"})
    for _ in range(3):
        assert await site.audit() == set()
    state = await site.audit_state()
    assert {*listed(state.suspects)} == changed_by_solve(site.user, first)
    assert state.drift == {}


async def test_a_value_changed_by_hand_is_corrected(site: Site, cache: "redis.Redis") -> None:
    first, second, _ = site.dojos
    cache.set(keys.dojo_stats(first.reference_id), b'{"solves": 99}')
    cache.set(keys.dojo_stats(second.reference_id), b"99")
    await site.audit()
    assert await site.audit() == names_of_boards(first, second)
    assert await site.solves(first) == 0
    assert (await site.audit_state()).drift == {"dojo_stats": 2}


@pytest.mark.parametrize(
    "key",
    [
        keys.scoreboard(0, 0, 7),
        keys.crews(0),
        keys.scores(0),
        keys.scores(0, 0),
        keys.challenge_solves(0, 0),
    ],
)
async def test_an_array_changed_by_hand_is_corrected_by_a_new_state(
    site: Site, cache: "redis.Redis", key: str
) -> None:
    first, *_ = site.dojos
    site.solve(first)
    jobs = [UserEntries(first.dojo_id, site.user.id), Activity(site.user.id)]
    await site.queue.enqueue([PendingJob(job) for job in jobs])
    await site.answer()
    before = cache.get(keys.boards(first.dojo_id))
    key = key.replace(":0", f":{first.dojo_id}", 1)
    right: Any = cache.get(key)
    assert right is not None
    cache.set(key, b'{"ranks": [7], "solves": {}}' if right.startswith(b"{") else b'["wrong"]')
    await site.audit()
    assert await site.audit() >= {Boards(first.dojo_id).name}
    assert cache.get(key) == right
    assert cache.get(keys.boards(first.dojo_id)) != before
    assert (await site.audit_state()).drift == {"boards": 1}


async def test_a_state_changed_by_hand_is_built_anew(site: Site, cache: "redis.Redis") -> None:
    """The statistics followed from it; the arrays are still right."""
    first, *_ = site.dojos
    prefix = prefix_of(cache, first.dojo_id)
    cache.hincrby(prefix, "solves", 99)
    # As time passes they follow from the state; for an event they would be computed in full.
    cache.zadd(keys.CHANGES, {DojoStats(first.dojo_id).name: 0})
    await site.answer()
    assert await site.solves(first) == 99
    await site.audit()
    assert await site.audit() == names_of_boards(first)
    assert await site.solves(first) == 0
    assert prefix_of(cache, first.dojo_id) != prefix
    assert (await site.audit_state()).drift == {"boards": 1, "dojo_stats": 1}


async def test_judging_takes_no_longer_than_comparing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next step judges the remaining suspects. A suspect that takes too long is left out."""
    for dojo in site.dojos:
        site.solve(dojo)
    await site.audit()
    assert {*listed(await site.suspects())} == changed_by_solve(site.user, *site.dojos)
    order = list((await site.audit_state()).suspects)
    slow = max(site.dojos, key=lambda dojo: order.index(name_of(dojo)))  # two come before it
    with site.webapp.engine.begin() as connection:
        connection.exec_driver_sql(_SLOW_SLUG.format(dojo_id=slow.dojo_id))
    with pytest.raises(ConnectionError):  # the first statement fails, as tables changed
        await site.slug_of(site.dojos[0])
    monkeypatch.setattr(drift_audit, "LONGEST_COMPARISON", 3.0)
    for limit in ("LONGEST_STEP", "LONGEST_WALK"):
        monkeypatch.setattr(drift_audit, limit, -1.0)
    judged: set[str] = set()
    for _ in range(2):
        found = await site.judge()
        assert len(found - judged) <= 2  # with a dojo's statistics its boards are enqueued
        judged |= found
        known = {*listed(judged | await site.suspects())}
        assert known == changed_by_solve(site.user, *site.dojos)
    for limit in ("LONGEST_STEP", "LONGEST_WALK"):
        monkeypatch.setattr(drift_audit, limit, 30.0)
    judged |= await site.judge()
    assert {*listed(judged)} == changed_by_solve(site.user, *site.dojos) - {name_of(slow)}


async def test_deleted_and_evicted_values_are_no_drift(site: Site, cache: "redis.Redis") -> None:
    """The sweep enqueues the job of the value, even if other values of the same job exist."""
    first, *_ = site.dojos
    key = keys.scoreboard(first.dojo_id, days=7)
    cache.delete(key, keys.updated(key), keys.dojo_stats(first.reference_id))
    for _ in range(3):
        assert await site.audit() == set()
    assert ((await site.audit_state()).drift, await site.suspects()) == ({}, set())


async def test_any_foreign_value_is_computed_anew(site: Site, cache: "redis.Redis") -> None:
    first, second, third = (keys.dojo_stats(dojo.reference_id) for dojo in site.dojos)
    cache.set(first, b"\xff{no JSON")
    cache.set(second, b"null")
    cache.set(third, b"{}")
    cache.set(keys.updated(second), b"-62135596800")
    cache.set(keys.updated(third), b"1e999")
    await site.audit()
    assert await site.audit() == names_of_boards(*site.dojos)
    for dojo in site.dojos:
        assert await site.solves(dojo) == 0


@pytest.mark.parametrize("raw", [b'{"cursor": 7}', b"\xff"])
async def test_an_unreadable_state_is_replaced_by_a_new_one(
    site: Site, cache: "redis.Redis", raw: bytes
) -> None:
    cache.set(keys.AUDIT, raw)
    await site.audit()
    assert (await site.audit_state()).compared == len(of_all(*site.dojos))


async def test_a_dojo_created_or_deleted_without_an_event_is_found(
    site: Site, cache: "redis.Redis"
) -> None:
    first, *_ = site.dojos
    made = site.webapp.create_dojo()
    site.webapp.delete([first])
    await site.audit()
    assert await site.audit() == all_of_dojos(first, made)
    assert await site.solves(made) == 0
    assert not cache.exists(keys.dojo_stats(first.reference_id))


async def test_without_a_cold_start_absent_values_stay_absent(
    async_cache: Redis, snapshots: Database, webapp: WebApp, cache: "redis.Redis"
) -> None:
    site = Site(async_cache, snapshots, webapp, refill=False)
    await site.start()
    first, second, _ = site.dojos
    for dojo in (first, second):
        await site.queue.enqueue([PendingJob(job) for job in jobs_of_dojo(dojo.dojo_id)])
    await site.answer()
    site.solve(first)
    key = keys.dojo_stats(second.reference_id)
    cache.delete(key, keys.updated(key))
    await site.audit()
    assert await site.audit() == of_dojos(first)
    assert not cache.exists(key)


async def test_changes_by_time_alone_are_no_drift(site: Site, cache: "redis.Redis") -> None:
    """The value is eight days old: its newest solve has left the window of a week meanwhile."""
    first, *_ = site.dojos
    [challenge_id, *_] = site.webapp.challenge_ids(first)
    site.webapp.solve(site.user, challenge_id, ago=timedelta(days=9))
    await site.publish(first)
    await site.consume()
    moment = now() - timedelta(days=8)
    with site.webapp.engine.connect() as connection:
        wanted = [DojoStats(first.dojo_id)]
        [values] = dojo_stats.calculator.compute(connection, wanted, moment).values()
    [(key, value)] = values.items()
    assert value["recent_solves"]
    as_of = moment.replace(tzinfo=UTC).timestamp()
    cache.mset({key: orjson.dumps(value), keys.updated(key): f"{as_of:.6f}"})
    for _ in range(3):
        assert await site.audit() == set()
    assert await site.suspects() == set()


async def test_a_key_that_two_dojos_claim_is_no_drift(site: Site, webapp: WebApp) -> None:
    twins = [webapp.create_dojo(id="twin", official=True) for _ in range(2)]
    site.solve(twins[0])
    for dojo in twins:
        await site.publish(dojo)
    await site.consume()
    for _ in range(3):
        assert await site.audit() == set()
    assert (await site.audit_state()).drift == {}


async def test_one_value_that_cannot_be_computed_does_not_hide_another(
    site: Site, webapp: WebApp
) -> None:
    first, second, _ = site.dojos
    with webapp.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE dojos RENAME TO real_dojos"))
        connection.execute(
            sa.text(
                "CREATE VIEW dojos AS SELECT dojo_id, id, name, password, data,"
                f" CASE WHEN dojo_id = {first.dojo_id} THEN (1 / (dojo_id - dojo_id))::bool"
                " ELSE official END AS official FROM real_dojos"
            )
        )
    site.solve(second)
    await site.audit()
    assert {*listed(await site.suspects())} == changed_by_solve(site.user, second)
    assert {*listed(await site.audit())} == changed_by_solve(site.user, second)


@pytest.mark.parametrize(("longest", "limit"), [(5.0, 59.0), (59.0, 3.0)])
async def test_one_value_that_takes_too_long_does_not_stop_the_audit(  # noqa: PLR0917 - fixtures
    async_cache: Redis,
    database: str,
    webapp: WebApp,
    monkeypatch: pytest.MonkeyPatch,
    longest: float,
    limit: float,
) -> None:
    """The limit is the time-out of a statement or of the audit, whichever is shorter."""
    monkeypatch.setattr(drift_audit, "LONGEST_COMPARISON", limit)
    url = database
    # Without prepared statements, as the tables change.
    limited = Database(url, pool_size=4, statement_timeout=longest, prepared_statements=False)
    site = Site(async_cache, limited, webapp)
    await site.start()
    first, second, _ = site.dojos
    with webapp.engine.begin() as connection:
        connection.exec_driver_sql(_SLOW_SLUG.format(dojo_id=first.dojo_id))
    site.solve(second)
    await site.audit()
    assert {*listed(await site.suspects())} == changed_by_solve(site.user, second)
    assert (await site.audit_state()).rounds == 1
    await limited.close()


_SLOW_SLUG = """
CREATE FUNCTION slowly(slug text) RETURNS text STABLE LANGUAGE plpgsql
AS $$ BEGIN PERFORM pg_sleep(600); RETURN slug; END $$;
ALTER TABLE dojos RENAME TO real_dojos;
CREATE VIEW dojos AS
SELECT dojo_id, CASE WHEN dojo_id = {dojo_id} THEN slowly(id) ELSE id END AS id,
  name, official, data FROM real_dojos
"""
