"""Jobs that follow from boards, and when statistics may be computed from boards."""

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
from tests.support.dojo_site import QUICK, DojoSite
from tests.support.processes import statuses
from tests.support.webapp import DojoChallenge, Module


async def test_statistics_do_not_follow_from_boards_that_missed_a_solve(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """A solve comes while there are no boards; the boards under construction lack it."""
    cache.delete(dojo_site.prefix)
    attempt = await dojo_site.lease(dojo_site.scoreboard)
    built = await dojo_site.build(attempt)
    await dojo_site.solve(1, 1)
    await dojo_site.answer(QUICK)
    dojo_site.check_stats(cache)
    assert statuses(
        await dojo_site.queue.complete(attempt, {dojo_site.scoreboard.name: built})
    ) == ["requeued"]
    await dojo_site.answer(QUICK)
    dojo_site.check_stats(cache)
    await dojo_site.answer()
    check_live(cache, world_of(dojo_site.webapp.engine), dojo_site.row)


async def test_statistics_do_not_follow_from_boards_of_a_dojo_that_changed(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    with dojo_site.webapp.sessions.begin() as session:
        row = session.scalars(
            sa.select(DojoChallenge).filter_by(challenge_id=dojo_site.challenges[0])
        ).one()
        row.required = False
    while await dojo_site.cache.xlen(keys.STREAM):
        await dojo_site.consumer.step()
    await dojo_site.answer(QUICK)
    dojo_site.check_stats(cache)
    await dojo_site.solve(1, 1)
    await dojo_site.answer(QUICK)
    dojo_site.check_stats(cache)


async def test_a_full_calculation_that_was_answered_is_not_repeated(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """Otherwise a dojo with steady solves would always be computed in full."""
    attempt = await dojo_site.lease(dojo_site.stats)
    await dojo_site.solve(1, 1)
    await dojo_site.answer({UserEntries.kind})
    found = await dojo_site.boards.dojo_stats([dojo_site.stats], attempt)
    answers = {each.name: answer for each, answer in found.items()}
    assert cache.hget(f"{keys.JOB}{dojo_site.stats.name}", "not_derived") is not None
    assert statuses(await dojo_site.queue.complete(attempt, answers)) == ["requeued"]
    assert cache.hget(f"{keys.JOB}{dojo_site.stats.name}", "not_derived") is None
    cache.hincrby(dojo_site.prefix, "solves", 1000)  # it follows from the boards, as they are
    await dojo_site.answer(QUICK)
    reference = keys.reference_id(dojo_site.dojo.dojo_id, dojo_site.dojo.id, official=False)
    assert value_of(cache, keys.dojo_stats(reference))["solves"] == 1002


async def test_a_job_of_class_missed_has_its_cooldown_after_its_answer(dojo_site: DojoSite) -> None:
    attempt = await dojo_site.lease(dojo_site.scoreboard, Priority.MISSED)
    await dojo_site.queue.enqueue([PendingJob(dojo_site.scoreboard, priority=Priority.EXPORT)])
    built = await dojo_site.build(attempt)
    answers = {dojo_site.scoreboard.name: built}
    assert statuses(await dojo_site.queue.complete(attempt, answers, cooldown=600.0)) == [
        "requeued"
    ]
    assert (await dojo_site.queue.lease(LeaseRequest({Scoreboard.kind: 1}))).attempt is None
    assert await dojo_site.queue.pending(Priority.MISSED) == 0
    assert await dojo_site.queue.pending(Priority.EXPORT) == 1


async def test_boards_are_not_used_after_an_older_daemon_wrote_the_array(
    dojo_site: DojoSite, cache: "redis.Redis", reader: Reader
) -> None:
    """That version has no boards and writes only arrays."""
    key = keys.scoreboard(dojo_site.dojo.dojo_id, days=0)
    found = reader.get_scoreboard(dojo_site.dojo.dojo_id)
    assert [entry["user_id"] for entry in found.entries] == [dojo_site.users[0].id]
    seconds, microseconds = cache.time()
    entry = found.entries[0] | {"user_id": dojo_site.users[1].id}
    cache.mset({key: orjson.dumps([entry]), keys.updated(key): f"{seconds}.{microseconds:06d}"})
    found = reader.get_scoreboard(dojo_site.dojo.dojo_id)
    assert [entry["user_id"] for entry in found.entries] == [dojo_site.users[1].id]
    await dojo_site.solve(2, 1)
    await dojo_site.answer(QUICK)
    dojo_site.check_stats(cache)
    await dojo_site.queue.sweep("0", 1000)
    await dojo_site.answer()
    check_live(cache, world_of(dojo_site.webapp.engine), dojo_site.row)


async def test_boards_of_modules_that_only_the_key_index_names_are_removed(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    cache.delete(dojo_site.prefix)
    with dojo_site.webapp.sessions.begin() as session:
        session.execute(sa.delete(DojoChallenge).filter_by(dojo_id=dojo_site.dojo.dojo_id))
        session.execute(sa.delete(Module).filter_by(dojo_id=dojo_site.dojo.dojo_id))
    await dojo_site.queue.enqueue([PendingJob(dojo_site.scoreboard)])
    await dojo_site.answer()
    left = {name.decode() for name in cache.scan_iter(f"{dojo_site.prefix}:*")}
    assert left == {f"{dojo_site.prefix}:{name}" for name in OF_DOJO}


DOJO_BOARDS = [f"dojo:{days}" for days in (0, 7, 30)]
OF_DOJO = ["users", "crews", "newest", "until", *DOJO_BOARDS]


async def test_a_user_who_is_new_after_the_day_ended_has_a_name_on_the_board(
    dojo_site: DojoSite, cache: "redis.Redis", reader: Reader
) -> None:
    cache.hset(dojo_site.prefix, "day", "2026-01-01")
    before = cache.hgetall(dojo_site.prefix)
    await dojo_site.solve(1, 1, ago=timedelta(days=1))
    await dojo_site.answer({UserEntries.kind})
    rank = reader.get_rank(dojo_site.dojo.dojo_id, dojo_site.users[1].id)
    assert rank == 2
    after = cache.hgetall(dojo_site.prefix)
    for count in (b"solves", b"puts"):
        assert int(after.pop(count)) == int(before.pop(count)) + 1
    assert after == before


async def test_totals_with_thousands_of_solves_at_one_moment(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """A bulk import, for example: more users than one Lua call takes as arguments."""
    moment = 2_000_000_000_000_000
    record = cache.hget(f"{dojo_site.prefix}:users", str(dojo_site.users[0].id)) or b""
    users = [str(number) for number in range(10_000_000, 10_020_000)]
    cache.zadd(f"{dojo_site.prefix}:newest", dict.fromkeys(users, moment))
    cache.hset(f"{dojo_site.prefix}:users", mapping=dict.fromkeys(users, record))
    await dojo_site.solve(1, 1)
    assert dojo_site.stats.name in await dojo_site.answer(QUICK)


async def test_entries_that_stay_empty_enqueue_no_scoreboard(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """A hidden user's solve changes no board, and must not cost a pass over the dojo."""
    await dojo_site.answer()
    entries = UserEntries(dojo_site.dojo.dojo_id, dojo_site.users[2].id)
    attempt = await dojo_site.lease(entries)
    found = await dojo_site.boards.user_entries_of([entries], attempt)
    answers = {each.name: answer for each, answer in found.items()}
    assert statuses(await dojo_site.queue.complete(attempt, answers)) == ["completed"]
    assert not cache.exists(keys.job(dojo_site.scoreboard.name))
    assert cache.exists(keys.job(dojo_site.stats.name))
