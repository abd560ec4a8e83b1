"""A user's activity is looked up among the challenges that the user is known to have solved."""

from typing import Any

import msgspec
import pytest
import redis
import sqlalchemy as sa

from statsd import keys, schema
from statsd.calculators.activity import Activity
from statsd.jobs.pending import PendingJob
from tests.oracles.naive_awards import activity as naive_activity
from tests.oracles.stored_boards import value_of, world_of
from tests.support.dojo_site import DojoSite
from tests.support.webapp import now


async def answered(site: DojoSite) -> tuple[int, ...] | None:
    """Answer the pending activity; return the challenges among which it was looked up."""
    found: list[Any] = []
    execute = site.execute

    async def noted(jobs: Any, attempt: Any) -> Any:
        found.extend(attempt.known.get(job.name) for job in jobs)
        return await execute(jobs, attempt)

    site.execute = noted  # type: ignore[method-assign]
    await site.answer({Activity.kind})
    site.execute = execute  # type: ignore[method-assign]
    [known] = found
    return None if known is None else tuple(sorted(known))


def check(site: DojoSite, cache: "redis.Redis") -> None:
    """Assert that the activity of the first user agrees with the definition."""
    world = world_of(site.webapp.engine)
    [user] = [each for each in world.users if each["id"] == site.users[0].id]
    wanted = naive_activity(world, user, now())
    assert value_of(cache, keys.activity(site.users[0].id)) == wanted


@pytest.fixture
async def site(dojo_site: DojoSite) -> DojoSite:
    """A site whose first user has solved two challenges, and whose activity is in the cache."""
    await dojo_site.solve(0, 1)
    await dojo_site.answer()
    return dojo_site


async def test_the_next_solve_is_looked_up_with_the_known_ones(
    site: DojoSite, cache: "redis.Redis"
) -> None:
    for count in (2, 3):
        await site.solve(0, count)
        assert await answered(site) == tuple(site.challenges[: count + 1])
        check(site, cache)


async def test_a_deleted_solve_is_no_longer_known(site: DojoSite, cache: "redis.Redis") -> None:
    await site.delete_solve(0, 1)
    assert await answered(site) is None  # an event of the activity is published too
    check(site, cache)
    await site.solve(0, 2)
    assert await answered(site) == (site.challenges[0], site.challenges[2])
    check(site, cache)


async def test_another_cause_reads_all_solves(site: DojoSite, cache: "redis.Redis") -> None:
    await site.solve(0, 2)
    await site.queue.enqueue([PendingJob(Activity(site.users[0].id))])
    assert await answered(site) is None
    check(site, cache)


async def test_a_solve_while_the_job_is_leased_reads_all_solves(
    site: DojoSite, cache: "redis.Redis"
) -> None:
    """What had changed belongs to the lease, whose answer may be refused."""
    job = Activity(site.users[0].id)
    await site.solve(0, 2)
    attempt = await site.lease(job)
    await site.solve(0, 3)
    await site.queue.release([*attempt.names])
    assert await answered(site) is None
    check(site, cache)


def other_value(cache: "redis.Redis", user_id: int) -> None:
    """Write the value as a version does that keeps no known solves."""
    cache.set(keys.updated(keys.activity(user_id)), "1.000000")


def no_value(cache: "redis.Redis", user_id: int) -> None:
    cache.delete(keys.activity(user_id), keys.updated(keys.activity(user_id)))


def no_hash(cache: "redis.Redis", _user_id: int) -> None:
    cache.delete(keys.KNOWN_SOLVES)


def other_type(cache: "redis.Redis", _user_id: int) -> None:
    cache.delete(keys.KNOWN_SOLVES)
    cache.rpush(keys.KNOWN_SOLVES, "no hash")


def garbled(cache: "redis.Redis", user_id: int) -> None:
    cache.hset(keys.KNOWN_SOLVES, str(user_id), b"\xc1")


def other_form(cache: "redis.Redis", user_id: int) -> None:
    as_of = cache.get(keys.updated(keys.activity(user_id)))
    assert isinstance(as_of, bytes)
    packed = msgspec.msgpack.encode([as_of.decode(), {"challenges": 7}])
    cache.hset(keys.KNOWN_SOLVES, str(user_id), packed)


@pytest.mark.parametrize("harm", [other_value, no_value, no_hash, other_type, garbled, other_form])
async def test_solves_that_are_not_known_for_sure_are_not_used(
    site: DojoSite, cache: "redis.Redis", harm: Any
) -> None:
    harm(cache, site.users[0].id)
    await site.solve(0, 2)
    assert await answered(site) is None
    check(site, cache)
    await site.solve(0, 3)
    assert await answered(site) == tuple(site.challenges)
    check(site, cache)


async def test_a_user_who_is_gone_is_forgotten(site: DojoSite, cache: "redis.Redis") -> None:
    user_id = site.users[0].id
    assert cache.hexists(keys.KNOWN_SOLVES, str(user_id))
    with site.webapp.engine.begin() as connection:
        for table in (schema.submissions, schema.dojo_users):
            connection.execute(sa.delete(table).where(table.c.user_id == user_id))
        connection.execute(sa.delete(schema.users).where(schema.users.c.id == user_id))
    await site.queue.enqueue([PendingJob(Activity(user_id))])
    await site.answer()
    assert not cache.hexists(keys.KNOWN_SOLVES, str(user_id))
