"""Boards end right whatever comes between their parts, and whatever cannot be computed."""

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
from tests.support.board_school import QUICK, School, accept
from tests.support.processes import statuses
from tests.support.webapp import DojoChallenge

# --- what comes between a snapshot and its answer


async def hide(school: School, *, hidden: bool) -> None:
    """Hide the first student, or not; the events wait."""
    with school.webapp.sessions.begin() as session:
        session.merge(school.users[0]).hidden = hidden


async def test_an_array_lacks_nobody_who_was_hidden_and_shown_again(
    school: School, cache: "redis.Redis"
) -> None:
    """The boards have them as before, so that it is nothing new to them."""
    attempt = await school.lease(school.scoreboard)
    await hide(school, hidden=True)
    built = await school.build(attempt)
    await hide(school, hidden=False)
    await accept(school)
    await school.answer(QUICK)
    await school.queue.complete(attempt, {school.scoreboard.name: built})
    await school.answer()
    check(cache, world_of(school.webapp.engine))


async def test_statistics_lack_nobody_who_was_hidden_and_shown_again(
    school: School, cache: "redis.Redis"
) -> None:
    attempt = await school.lease(school.stats)
    await hide(school, hidden=True)
    found = await school.boards.dojo_stats([school.stats], attempt)
    await hide(school, hidden=False)
    answers = {each.name: answer for each, answer in found.items()}
    await school.queue.complete(attempt, answers)
    await accept(school)
    await school.answer()
    school.check_stats(cache)


@pytest.mark.parametrize("key", [":users", ":touched"])
async def test_what_was_evicted_before_it_was_carried_over_is_not_missed(
    school: School, cache: "redis.Redis", key: str
) -> None:
    attempt = await school.lease(school.scoreboard)
    built = await school.build(attempt)
    await school.solve(1, 1)
    await school.answer(QUICK)
    school.check_stats(cache)
    cache.delete(school.prefix + key)
    answers = {school.scoreboard.name: built}
    assert statuses(await school.queue.complete(attempt, answers, cooldown=600.0)) == ["requeued"]
    await school.answer(QUICK)
    school.check_stats(cache)


# --- what cannot be read or computed


async def test_boards_that_cannot_be_read_hold_up_no_lease(
    school: School, cache: "redis.Redis"
) -> None:
    await school.answer()
    cache.hset(school.prefix, "modules", "no JSON")
    attempt = await school.lease(school.stats)
    assert attempt.prefetched == {school.stats.name: []}
    await school.queue.release()
    await school.answer({school.stats.kind})
    school.check_stats(cache)


async def test_what_boards_say_is_true_for_one_token(school: School, cache: "redis.Redis") -> None:
    """A try at a later one reads the database."""
    await school.answer()
    await school.solve(1, 1)
    await school.answer({UserEntries.kind})
    attempt = (await school.queue.lease(LeaseRequest({school.stats.kind: 1}))).attempt
    assert attempt is not None
    assert attempt.prefetched[school.stats.name]
    renewed = await school.queue.renew(attempt)
    assert renewed.prefetched == {}
    found = await school.boards.dojo_stats([school.stats], renewed)
    answers = {each.name: answer for each, answer in found.items()}
    assert statuses(await school.queue.complete(renewed, answers)) == ["completed"]
    school.check_stats(cache)


async def bury(school: School, kind: str) -> None:
    attempt = (await school.queue.lease(LeaseRequest({kind: 1}))).attempt
    assert attempt is not None
    assert await school.queue.fail(attempt, [], {"error": "no", "traceback": ""}) == (1, None)


async def test_boards_that_cannot_be_built_are_not_believed(
    school: School, cache: "redis.Redis"
) -> None:
    with school.webapp.sessions.begin() as session:
        row = sa.select(DojoChallenge).filter_by(challenge_id=school.challenges[0])
        session.scalars(row).one().required = False
    await accept(school)
    cache.delete(keys.DELAYED)
    await school.answer(QUICK)
    await bury(school, Scoreboard.kind)
    await school.solve(1, 1)
    await school.answer(QUICK)
    school.check_stats(cache)


async def test_entries_that_cannot_be_looked_up_are_built(
    school: School, cache: "redis.Redis"
) -> None:
    await school.solve(1, 1)
    cache.delete(keys.DELAYED)
    await bury(school, UserEntries.kind)
    await school.answer()
    check(cache, world_of(school.webapp.engine))


async def test_a_solve_of_antiquity_is_one(school: School, cache: "redis.Redis") -> None:
    """No date of Python's is as old; only whether it is in a window matters."""
    await school.solve(1, 1)
    await school.answer()
    with school.webapp.engine.begin() as connection:
        statement = "UPDATE submissions SET date = '0100-01-01 BC' WHERE user_id = :user_id"
        connection.execute(sa.text(statement), {"user_id": school.users[1].id})
    attempt = await school.lease(UserEntries(school.dojo.dojo_id, school.users[1].id))
    answers = await school.boards.user_entries_of([parse(attempt.names[0])], attempt)  # type: ignore[list-item]
    completed = {each.name: answer for each, answer in answers.items()}
    assert statuses(await school.queue.complete(attempt, completed)) == ["completed"]
    board = cache.zrange(f"{school.prefix}:dojo:7", 0, -1)
    assert board == [b"-", str(school.users[0].id).encode()]
    assert cache.zcard(f"{school.prefix}:dojo:0") == 3


async def test_a_dojo_of_very_many_modules(school: School, cache: "redis.Redis") -> None:
    """More keys than a script can hand around at once."""
    modules = [
        {"dojo_id": school.dojo.dojo_id, "module_index": i, "id": f"m{i}", "name": "m"}
        for i in range(1, 3000)
    ]
    with school.webapp.engine.begin() as connection:
        connection.execute(sa.insert(schema.dojo_modules), modules)
    for _ in range(2):
        await school.queue.enqueue([PendingJob(school.scoreboard)])
        assert school.scoreboard.name in await school.answer({Scoreboard.kind})
    assert cache.zcard(f"{school.prefix}:2999:0") == 1


async def test_what_was_evicted_does_not_rest(school: School, cache: "redis.Redis") -> None:
    attempt = await school.lease(school.scoreboard)
    built = await school.build(attempt)
    answers = {school.scoreboard.name: built}
    assert statuses(await school.queue.complete(attempt, answers, cooldown=600.0)) == ["completed"]
    cache.delete(keys.scoreboard(school.dojo.dojo_id))
    await school.queue.sweep("0", 1000)
    assert (await school.queue.lease(LeaseRequest({Scoreboard.kind: 1}))).attempt is not None
