"""Boards end correct after changes between snapshot and answer, and after failed jobs."""

import pytest
import redis
import sqlalchemy as sa

from statsd import keys, schema
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.user_entries import UserEntries
from statsd.job import parse
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import LeaseRequest
from tests.oracles.stored_boards import check, world_of
from tests.support.dojo_site import QUICK, DojoSite, accept
from tests.support.processes import statuses
from tests.support.webapp import DojoChallenge

# --- changes between a snapshot and its answer


async def hide(dojo_site: DojoSite, *, hidden: bool) -> None:
    """Hide or show the first student; the events stay in the stream."""
    with dojo_site.webapp.sessions.begin() as session:
        session.merge(dojo_site.users[0]).hidden = hidden


async def test_an_array_has_a_user_hidden_and_shown_during_its_computation(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """The boards never lost the user, so the user entries change nothing."""
    attempt = await dojo_site.lease(dojo_site.scoreboard)
    await hide(dojo_site, hidden=True)
    built = await dojo_site.build(attempt)
    await hide(dojo_site, hidden=False)
    await accept(dojo_site)
    await dojo_site.answer(QUICK)
    await dojo_site.queue.complete(attempt, {dojo_site.scoreboard.name: built})
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))


async def test_statistics_have_a_user_hidden_and_shown_during_their_computation(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    attempt = await dojo_site.lease(dojo_site.stats)
    await hide(dojo_site, hidden=True)
    found = await dojo_site.boards.dojo_stats([dojo_site.stats], attempt)
    await hide(dojo_site, hidden=False)
    answers = {each.name: answer for each, answer in found.items()}
    await dojo_site.queue.complete(attempt, answers)
    await accept(dojo_site)
    await dojo_site.answer()
    dojo_site.check_stats(cache)


@pytest.mark.parametrize("key", [":users", ":touched"])
async def test_entries_evicted_before_they_are_carried_over_are_computed_again(
    dojo_site: DojoSite, cache: "redis.Redis", key: str
) -> None:
    attempt = await dojo_site.lease(dojo_site.scoreboard)
    built = await dojo_site.build(attempt)
    await dojo_site.solve(1, 1)
    await dojo_site.answer(QUICK)
    dojo_site.check_stats(cache)
    cache.delete(dojo_site.prefix + key)
    answers = {dojo_site.scoreboard.name: built}
    assert statuses(await dojo_site.queue.complete(attempt, answers, cooldown=600.0)) == [
        "requeued"
    ]
    await dojo_site.answer(QUICK)
    dojo_site.check_stats(cache)


# --- boards that cannot be read, and jobs that cannot be computed


async def test_unreadable_boards_do_not_prevent_a_lease(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    await dojo_site.answer()
    cache.hset(dojo_site.prefix, "modules", "no JSON")
    attempt = await dojo_site.lease(dojo_site.stats)
    assert attempt.prefetched == {}
    await dojo_site.queue.release()
    await dojo_site.answer({dojo_site.stats.kind})
    dojo_site.check_stats(cache)


@pytest.mark.parametrize(
    ("key", "field", "value"),
    [
        ("", "day", None),
        ("", "solves", "many"),
        (":users", "1", b"\xff|no record"),
        ("", "day", b"\xff"),
    ],
)
async def test_garbled_totals_do_not_prevent_a_lease(
    dojo_site: DojoSite, cache: "redis.Redis", key: str, field: str, value: str | bytes | None
) -> None:
    """A worker that could not read its lease would end the daemon, time and again."""
    await dojo_site.answer()
    field = str(dojo_site.users[0].id) if field == "1" else field
    if value is None:
        cache.hdel(dojo_site.prefix + key, field)
    else:
        cache.hset(dojo_site.prefix + key, field, value)
    attempt = await dojo_site.lease(dojo_site.stats)
    assert attempt.prefetched == {}
    await dojo_site.queue.release()
    await dojo_site.answer({dojo_site.stats.kind})
    dojo_site.check_stats(cache)


async def test_prefetched_totals_are_valid_for_one_token(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """An attempt with a newer token reads the database."""
    await dojo_site.answer()
    await dojo_site.solve(1, 1)
    await dojo_site.answer({UserEntries.kind})
    attempt = (await dojo_site.queue.lease(LeaseRequest({dojo_site.stats.kind: 1}))).attempt
    assert attempt is not None
    assert attempt.prefetched[dojo_site.stats.name].users == 2
    renewed = await dojo_site.queue.renew(attempt)
    assert renewed.prefetched == {}
    found = await dojo_site.boards.dojo_stats([dojo_site.stats], renewed)
    answers = {each.name: answer for each, answer in found.items()}
    assert statuses(await dojo_site.queue.complete(renewed, answers)) == ["completed"]
    dojo_site.check_stats(cache)


async def bury(dojo_site: DojoSite, kind: str) -> None:
    attempt = (await dojo_site.queue.lease(LeaseRequest({kind: 1}))).attempt
    assert attempt is not None
    assert await dojo_site.queue.fail(attempt, [], {"error": "no", "traceback": ""}) == (1, None)


async def test_boards_whose_rebuild_was_buried_are_not_used(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    with dojo_site.webapp.sessions.begin() as session:
        row = sa.select(DojoChallenge).filter_by(challenge_id=dojo_site.challenges[0])
        session.scalars(row).one().required = False
    await accept(dojo_site)
    cache.delete(keys.DELAYED)
    await dojo_site.answer(QUICK)
    await bury(dojo_site, Scoreboard.kind)
    await dojo_site.solve(1, 1)
    await dojo_site.answer(QUICK)
    dojo_site.check_stats(cache)


async def test_a_rebuild_follows_user_entries_that_were_buried(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    await dojo_site.solve(1, 1)
    cache.delete(keys.DELAYED)
    await bury(dojo_site, UserEntries.kind)
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))


async def test_a_solve_dated_before_our_era_counts(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """Python has no such date; the date only decides about windows."""
    await dojo_site.solve(1, 1)
    await dojo_site.answer()
    with dojo_site.webapp.engine.begin() as connection:
        statement = "UPDATE submissions SET date = '0100-01-01 BC' WHERE user_id = :user_id"
        connection.execute(sa.text(statement), {"user_id": dojo_site.users[1].id})
    attempt = await dojo_site.lease(UserEntries(dojo_site.dojo.dojo_id, dojo_site.users[1].id))
    answers = await dojo_site.boards.user_entries_of([parse(attempt.names[0])], attempt)  # type: ignore[list-item]
    completed = {each.name: answer for each, answer in answers.items()}
    assert statuses(await dojo_site.queue.complete(attempt, completed)) == ["completed"]
    board = cache.zrange(f"{dojo_site.prefix}:dojo:7", 0, -1)
    assert board == [b"-", str(dojo_site.users[0].id).encode()]
    assert cache.zcard(f"{dojo_site.prefix}:dojo:0") == 3


async def test_a_dojo_may_have_thousands_of_modules(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """It has more keys than one Lua call takes as arguments."""
    modules = [
        {"dojo_id": dojo_site.dojo.dojo_id, "module_index": i, "id": f"m{i}", "name": "m"}
        for i in range(1, 3000)
    ]
    with dojo_site.webapp.engine.begin() as connection:
        connection.execute(sa.insert(schema.dojo_modules), modules)
    for _ in range(2):
        await dojo_site.queue.enqueue([PendingJob(dojo_site.scoreboard)])
        assert dojo_site.scoreboard.name in await dojo_site.answer({Scoreboard.kind})
    assert cache.zcard(f"{dojo_site.prefix}:2999:0") == 1


async def test_a_job_whose_key_was_evicted_has_no_cooldown(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    attempt = await dojo_site.lease(dojo_site.scoreboard)
    built = await dojo_site.build(attempt)
    answers = {dojo_site.scoreboard.name: built}
    assert statuses(await dojo_site.queue.complete(attempt, answers, cooldown=600.0)) == [
        "completed"
    ]
    cache.delete(keys.scoreboard(dojo_site.dojo.dojo_id))
    await dojo_site.queue.sweep("0", 1000)
    assert (await dojo_site.queue.lease(LeaseRequest({Scoreboard.kind: 1}))).attempt is not None
