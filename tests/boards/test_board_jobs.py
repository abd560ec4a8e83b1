"""What is owed of boards, and when statistics may follow from them."""

from datetime import timedelta

import orjson
import redis
import sqlalchemy as sa

from statsd import keys
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.user_entries import UserEntries
from statsd.client import Reader
from statsd.job import Priority
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import LeaseRequest
from tests.oracles.stored_boards import check_live, value_of, world_of
from tests.support.board_school import QUICK, School
from tests.support.processes import statuses
from tests.support.webapp import DojoChallenge, Module


async def test_statistics_do_not_follow_from_boards_that_missed_a_solve(
    school: School, cache: "redis.Redis"
) -> None:
    """A solve comes while there are no boards, and the ones being built do not have it."""
    cache.delete(school.prefix)
    attempt = await school.lease(school.scoreboard)
    built = await school.build(attempt)
    await school.solve(1, 1)
    await school.answer(QUICK)
    school.check_stats(cache)
    assert statuses(await school.queue.complete(attempt, {school.scoreboard.name: built})) == [
        "requeued"
    ]
    await school.answer(QUICK)
    school.check_stats(cache)
    await school.answer()
    check_live(cache, world_of(school.webapp.engine), school.row)


async def test_statistics_do_not_follow_from_boards_of_a_dojo_that_changed(
    school: School, cache: "redis.Redis"
) -> None:
    with school.webapp.sessions.begin() as session:
        row = session.scalars(
            sa.select(DojoChallenge).filter_by(challenge_id=school.challenges[0])
        ).one()
        row.required = False
    while await school.cache.xlen(keys.STREAM):
        await school.consumer.step()
    await school.answer(QUICK)
    school.check_stats(cache)
    await school.solve(1, 1)
    await school.answer(QUICK)
    school.check_stats(cache)


async def test_what_was_pending_in_full_and_answered_is_pending_in_full_no_more(
    school: School, cache: "redis.Redis"
) -> None:
    """Else a dojo in which somebody always solves would be computed in full for ever."""
    attempt = await school.lease(school.stats)
    await school.solve(1, 1)
    await school.answer({UserEntries.kind})
    found = await school.boards.dojo_stats([school.stats], attempt)
    answers = {each.name: answer for each, answer in found.items()}
    assert cache.hget(f"{keys.INTERNAL}mark:{school.stats.name}", "full") is not None
    assert statuses(await school.queue.complete(attempt, answers)) == ["requeued"]
    assert cache.hget(f"{keys.INTERNAL}mark:{school.stats.name}", "full") is None
    cache.hincrby(school.prefix, "solves", 1000)  # it follows from the boards, as they are
    await school.answer(QUICK)
    reference = keys.reference_id(school.dojo.dojo_id, school.dojo.id, official=False)
    assert value_of(cache, keys.dojo_stats(reference))["solves"] == 1002


async def test_what_a_page_missed_cools_down_once_it_was_answered(school: School) -> None:
    attempt = await school.lease(school.scoreboard, Priority.MISSED)
    await school.queue.enqueue([PendingJob(school.scoreboard, priority=Priority.EXPORT)])
    built = await school.build(attempt)
    answers = {school.scoreboard.name: built}
    assert statuses(await school.queue.complete(attempt, answers, cooldown=600.0)) == ["requeued"]
    assert (await school.queue.lease(LeaseRequest({Scoreboard.kind: 1}))).attempt is None
    assert await school.queue.pending(Priority.MISSED) == 0
    assert await school.queue.pending(Priority.EXPORT) == 1


async def test_boards_that_an_older_daemon_left_alone_are_not_used(
    school: School, cache: "redis.Redis", reader: Reader
) -> None:
    """It knows none, and writes arrays."""
    key = keys.scoreboard(school.dojo.dojo_id, days=0)
    found = reader.get_scoreboard(school.dojo.dojo_id)
    assert [entry["user_id"] for entry in found.entries] == [school.users[0].id]
    seconds, microseconds = cache.time()
    entry = found.entries[0] | {"user_id": school.users[1].id}
    cache.mset({key: orjson.dumps([entry]), keys.updated(key): f"{seconds}.{microseconds:06d}"})
    found = reader.get_scoreboard(school.dojo.dojo_id)
    assert [entry["user_id"] for entry in found.entries] == [school.users[1].id]
    await school.solve(2, 1)
    await school.answer(QUICK)
    school.check_stats(cache)
    await school.queue.sweep("0", 1000)
    await school.answer()
    check_live(cache, world_of(school.webapp.engine), school.row)


async def test_boards_of_modules_go_though_nothing_tells_of_them_but_the_arrays(
    school: School, cache: "redis.Redis"
) -> None:
    cache.delete(school.prefix)
    with school.webapp.sessions.begin() as session:
        session.execute(sa.delete(DojoChallenge).filter_by(dojo_id=school.dojo.dojo_id))
        session.execute(sa.delete(Module).filter_by(dojo_id=school.dojo.dojo_id))
    await school.queue.enqueue([PendingJob(school.scoreboard)])
    await school.answer()
    left = {name.decode() for name in cache.scan_iter(f"{school.prefix}:*")}
    assert left == {f"{school.prefix}:{name}" for name in OF_DOJO}


DOJO_BOARDS = [f"dojo:{days}" for days in (0, 7, 30)]
OF_DOJO = ["users", "crews", "newest", "until", *DOJO_BOARDS]


async def test_who_is_new_since_the_day_ended_has_a_name_on_the_board(
    school: School, cache: "redis.Redis", reader: Reader
) -> None:
    cache.hset(school.prefix, "day", "2026-01-01")
    before = cache.hgetall(school.prefix)
    await school.solve(1, 1, ago=timedelta(days=1))
    await school.answer({UserEntries.kind})
    rank = reader.get_rank(school.dojo.dojo_id, school.users[1].id)
    assert rank == 2
    after = cache.hgetall(school.prefix)
    for count in (b"solves", b"puts"):
        assert int(after.pop(count)) == int(before.pop(count)) + 1
    assert after == before


async def test_very_many_solves_of_one_moment(school: School, cache: "redis.Redis") -> None:
    """A bulk import, say; more than a script can hand around at once."""
    moment = 2_000_000_000_000_000
    record = cache.hget(f"{school.prefix}:users", str(school.users[0].id)) or b""
    users = [str(number) for number in range(10_000_000, 10_020_000)]
    cache.zadd(f"{school.prefix}:newest", dict.fromkeys(users, moment))
    cache.hset(f"{school.prefix}:users", mapping=dict.fromkeys(users, record))
    await school.solve(1, 1)
    assert school.stats.name in await school.answer(QUICK)
