"""Jobs that follow from boards, and when statistics may be computed from boards."""

from datetime import timedelta

import pytest
import redis
import sqlalchemy as sa

from statsd import keys
from statsd.boards import check as checks
from statsd.calculators.dojo_arrays import Boards, Exports
from statsd.calculators.dojo_check import DojoCheck, RecordsCheck
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.user_entries import UserEntries
from statsd.job import Priority
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import LeaseRequest
from tests.oracles.stored_boards import check, value_of, world_of
from tests.support.dojo_site import QUICK, DojoSite, accept
from tests.support.processes import statuses
from tests.support.webapp import DojoChallenge, Membership, Module, Visibility, now, publish

CHECKS = {DojoCheck.kind, RecordsCheck.kind}


async def test_statistics_do_not_follow_from_boards_that_missed_a_solve(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """A solve comes while there are no boards; the boards under construction lack it."""
    cache.delete(dojo_site.pointer)
    attempt = await dojo_site.lease(dojo_site.whole)
    built = await dojo_site.build(attempt)
    cache.delete(dojo_site.pointer)
    await dojo_site.solve(1, 1)
    await dojo_site.answer(QUICK)
    dojo_site.check_stats(cache)
    assert statuses(await dojo_site.queue.complete(attempt, {dojo_site.whole.name: built})) == [
        "requeued"
    ]
    await dojo_site.answer(QUICK)
    dojo_site.check_stats(cache)
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))


async def test_statistics_do_not_follow_from_boards_of_a_dojo_that_changed(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """From the check on until the whole pass; the event itself says nothing of the kind."""
    with dojo_site.webapp.sessions.begin() as session:
        row = session.scalars(
            sa.select(DojoChallenge).filter_by(challenge_id=dojo_site.challenges[0])
        ).one()
        row.required = False
    await accept(dojo_site)
    await dojo_site.answer({DojoCheck.kind, *QUICK})
    dojo_site.check_stats(cache)
    await dojo_site.solve(1, 1)
    await dojo_site.answer(QUICK)
    dojo_site.check_stats(cache)


async def test_a_full_calculation_is_not_repeated(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """Otherwise a dojo with steady solves would always be computed in full."""
    attempt = await dojo_site.lease(dojo_site.stats)
    await dojo_site.solve(1, 1)
    await dojo_site.answer({UserEntries.kind})
    found = await dojo_site.boards.dojo_stats([dojo_site.stats], attempt)
    answers = {each.name: answer for each, answer in found.items()}
    assert statuses(await dojo_site.queue.complete(attempt, answers)) == ["requeued"]
    cache.hincrby(dojo_site.prefix(cache), "solves", 1000)  # it follows from the boards as they are
    await dojo_site.answer(QUICK)
    assert value_of(cache, keys.dojo_stats(dojo_site.dojo.reference_id))["solves"] == 1002


async def test_a_job_of_class_missed_has_its_cooldown_after_its_answer(dojo_site: DojoSite) -> None:
    attempt = await dojo_site.lease(dojo_site.whole, Priority.MISSED)
    await dojo_site.queue.enqueue([PendingJob(dojo_site.whole, priority=Priority.EXPORT)])
    built = await dojo_site.build(attempt)
    answers = {dojo_site.whole.name: built}
    assert statuses(await dojo_site.queue.complete(attempt, answers, cooldown=600.0)) == [
        "requeued"
    ]
    assert (await dojo_site.queue.lease(LeaseRequest({Boards.kind: 1}))).attempt is None
    assert await dojo_site.queue.pending(Priority.MISSED) == 0
    assert await dojo_site.queue.pending(Priority.EXPORT) == 1


async def test_the_state_of_a_dojo_without_modules(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    with dojo_site.webapp.sessions.begin() as session:
        session.execute(sa.delete(DojoChallenge).filter_by(dojo_id=dojo_site.dojo.dojo_id))
        session.execute(sa.delete(Module).filter_by(dojo_id=dojo_site.dojo.dojo_id))
    await dojo_site.queue.enqueue([PendingJob(dojo_site.whole)])
    await dojo_site.answer()
    prefix = dojo_site.prefix(cache)
    left = {name.decode().removeprefix(prefix) for name in cache.scan_iter(f"{keys.BOARDS}*")}
    boards = {f":dojo:{name}" for name in (0, 7, 30, "items")}
    others = {":users", ":tagged", ":newest", ":until", ":days", ":members", ":log", ":dirty"}
    assert left == {dojo_site.pointer, "", *boards, *others}
    assert value_of(cache, keys.scoreboard(dojo_site.dojo.dojo_id)) == []


async def test_a_solve_leaves_the_boards_of_others_alone(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """Only the entries of the solver are written, and the state is not rebuilt."""
    for user in (1, 2):
        await dojo_site.solve(user, 0)
    await dojo_site.answer()
    pointer, board = cache.get(dojo_site.pointer), f"{dojo_site.prefix(cache)}:dojo:0"
    first, second = (str(user.id) for user in dojo_site.users[:2])
    cache.zadd(board, {second: 1})  # it stays as it is
    await dojo_site.solve(0, 1)
    await dojo_site.answer({UserEntries.kind})
    assert cache.get(dojo_site.pointer) == pointer
    assert cache.zscore(board, second) == 1
    assert cache.zrevrank(board, first) == 0


async def test_totals_with_thousands_of_solves_at_one_moment(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """A bulk import, for example: more users than one Lua call takes as arguments."""
    prefix, moment = dojo_site.prefix(cache), 2_000_000_000_000_000
    record = cache.hget(f"{prefix}:users", str(dojo_site.users[0].id)) or b""
    users = [str(number) for number in range(10_000_000, 10_020_000)]
    cache.zadd(f"{prefix}:newest", dict.fromkeys(users, moment))
    cache.hset(f"{prefix}:users", mapping=dict.fromkeys(users, record))
    await dojo_site.solve(1, 1)
    assert dojo_site.stats.name in await dojo_site.answer(QUICK)


async def test_entries_that_stay_empty_enqueue_no_export(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """A user's name that is on no board, for example."""
    await dojo_site.answer()
    entries = UserEntries(dojo_site.dojo.dojo_id, dojo_site.users[2].id)
    await dojo_site.queue.enqueue([PendingJob(entries)])
    await dojo_site.answer({UserEntries.kind})
    for job in (dojo_site.whole, dojo_site.exports):
        assert not cache.exists(keys.job(job.name))
    assert cache.exists(keys.job(dojo_site.stats.name))


# --- changes whose cause no event names


def told(dojo_site: DojoSite, cache: "redis.Redis") -> None:
    """Publish an event that only names the dojo."""
    publish(cache, dojo_site.dojo)


async def without_events(dojo_site: DojoSite) -> None:
    """Drop what the listener has published."""
    await dojo_site.cache.xtrim(keys.STREAM, maxlen=0)


async def test_an_event_that_changes_nothing_costs_no_whole_pass(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    pointer = cache.get(dojo_site.pointer)
    told(dojo_site, cache)
    await dojo_site.consume()
    assert cache.get(dojo_site.pointer) == pointer
    assert not cache.exists(keys.job(dojo_site.whole.name))


async def test_a_class_that_joins_costs_no_whole_pass(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """A dojo with members only; all joins are told by events that name the dojo."""
    webapp = dojo_site.webapp
    course = webapp.create_dojo(3, data={"type": "course"})
    challenges = webapp.challenge_ids(course)
    for user in dojo_site.users:
        webapp.solve(user, challenges[0])
    await dojo_site.consume()
    pointer = cache.get(keys.boards(course.dojo_id))
    assert pointer
    for user, kind in zip(dojo_site.users, ("student", "member", "admin"), strict=True):
        webapp.add(Membership(dojo_id=course.dojo_id, user_id=user.id, type=kind))
        await without_events(dojo_site)
        publish(cache, course)
        await dojo_site.consume()
    check(cache, world_of(webapp.engine))
    with webapp.sessions.begin() as session:
        membership = session.get_one(Membership, (course.dojo_id, dojo_site.users[2].id))
        membership.type = "member"
        session.delete(session.get_one(Membership, (course.dojo_id, dojo_site.users[0].id)))
    await without_events(dojo_site)
    publish(cache, course)
    await dojo_site.consume()
    check(cache, world_of(webapp.engine))
    assert cache.get(keys.boards(course.dojo_id)) == pointer


@pytest.mark.parametrize("change", ["required", "visibility", "module", "challenge", "kind"])
async def test_a_change_of_the_dojo_itself_is_found(
    dojo_site: DojoSite, cache: "redis.Redis", change: str
) -> None:
    dojo_id, pointer = dojo_site.dojo.dojo_id, cache.get(dojo_site.pointer)
    with dojo_site.webapp.sessions.begin() as session:
        row = session.scalars(
            sa.select(DojoChallenge).filter_by(challenge_id=dojo_site.challenges[0])
        ).one()
        if change == "required":
            row.required = False
        elif change == "visibility":
            start = now() + timedelta(days=1)
            session.add(Visibility(dojo_id=dojo_id, module_index=0, challenge_index=0, start=start))
        elif change == "module":
            session.add(Module(dojo_id=dojo_id, module_index=9, id="n", name="New"))
        elif change == "challenge":
            row.challenge_id = dojo_site.challenges[1]
        else:
            session.merge(dojo_site.dojo).data = {"type": "course"}
    await without_events(dojo_site)
    told(dojo_site, cache)
    await dojo_site.consume()
    assert cache.get(dojo_site.pointer) != pointer
    check(cache, world_of(dojo_site.webapp.engine))


async def test_solves_without_an_event_are_found_by_a_check_in_slices(
    dojo_site: DojoSite, cache: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """No whole pass is necessary: only those users are looked up."""
    monkeypatch.setattr(checks, "SLICE", 1)
    monkeypatch.setattr(checks, "SLICE_DELAY", 0)
    pointer = cache.get(dojo_site.pointer)
    dojo_site.webapp.solve(dojo_site.users[2], dojo_site.challenges[1])
    with dojo_site.webapp.engine.begin() as connection:
        delete = sa.text("DELETE FROM submissions WHERE user_id = :user_id")
        connection.execute(delete, {"user_id": dojo_site.users[0].id})
    await without_events(dojo_site)
    told(dojo_site, cache)
    await accept(dojo_site)
    cache.delete(keys.COOLDOWNS)  # the one after the check before
    looked_up = set()
    for _ in range(2 * len(dojo_site.users) + 4):
        await dojo_site.answer(CHECKS)
        looked_up |= set(cache.keys(f"{keys.JOB}{UserEntries.kind}:*"))
        await dojo_site.answer({UserEntries.kind, DojoStats.kind, Exports.kind})
    users = (dojo_site.users[0], dojo_site.users[2])
    assert looked_up == {
        keys.job(UserEntries(dojo_site.dojo.dojo_id, user.id).name).encode() for user in users
    }
    assert cache.get(dojo_site.pointer) == pointer
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))
