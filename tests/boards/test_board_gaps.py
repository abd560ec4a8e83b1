"""Boards end correct after changes between snapshot and answer, and after failed jobs."""

import pytest
import redis
import sqlalchemy as sa

from statsd import keys, schema
from statsd.calculators.dojo_arrays import Boards
from statsd.calculators.dojo_check import DojoCheck
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.user_entries import UserEntries
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


async def test_arrays_have_a_user_hidden_and_shown_during_their_whole_pass(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """The old state never lost the user, so there its entries change nothing."""
    attempt = await dojo_site.lease(dojo_site.whole)
    await hide(dojo_site, hidden=True)
    built = await dojo_site.build(attempt)
    await hide(dojo_site, hidden=False)
    await accept(dojo_site)
    await dojo_site.answer(QUICK)
    await dojo_site.queue.complete(attempt, {dojo_site.whole.name: built})
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))


async def test_an_export_has_a_user_hidden_and_shown_during_it(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    await dojo_site.solve(1, 1)
    await dojo_site.answer(QUICK)
    attempt = await dojo_site.lease(dojo_site.exports)
    await hide(dojo_site, hidden=True)
    await accept(dojo_site)
    await dojo_site.answer(QUICK)
    made = (await dojo_site.execute([dojo_site.exports], attempt))[dojo_site.exports]
    await hide(dojo_site, hidden=False)
    await accept(dojo_site)
    await dojo_site.answer(QUICK)
    done = await dojo_site.queue.complete(attempt, {dojo_site.exports.name: made})
    assert statuses(done) == ["requeued"]
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


async def test_a_user_deleted_during_a_whole_pass_stays_gone(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    await dojo_site.solve(1, 1)
    await dojo_site.answer()
    attempt = await dojo_site.lease(dojo_site.whole)
    built = await dojo_site.build(attempt)
    dojo_site.webapp.delete([dojo_site.users[1]])
    await accept(dojo_site)
    await dojo_site.answer(QUICK)
    await dojo_site.queue.complete(attempt, {dojo_site.whole.name: built})
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))


# --- boards that cannot be read, and jobs that cannot be computed


async def test_unreadable_boards_do_not_prevent_a_lease(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    await dojo_site.answer()
    cache.delete(f"{dojo_site.prefix(cache)}:newest")
    cache.set(f"{dojo_site.prefix(cache)}:newest", "no sorted set")
    attempt = await dojo_site.lease(dojo_site.stats)
    assert attempt.prefetched == {}
    await dojo_site.queue.release()
    await dojo_site.answer({dojo_site.stats.kind})
    dojo_site.check_stats(cache)


@pytest.mark.parametrize(
    ("key", "field", "value"),
    [
        ("", "epoch", None),
        ("", "modules", None),
        ("", "solves", "many"),
        ("", "log_from", b"\xff"),
        (":users", "1", b"\xff|no record"),
    ],
)
async def test_garbled_totals_do_not_prevent_a_lease(
    dojo_site: DojoSite, cache: "redis.Redis", key: str, field: str, value: str | bytes | None
) -> None:
    """A worker that could not read its lease would end the daemon, time and again."""
    await dojo_site.answer()
    field = str(dojo_site.users[0].id) if field == "1" else field
    if value is None:
        cache.hdel(dojo_site.prefix(cache) + key, field)
    else:
        cache.hset(dojo_site.prefix(cache) + key, field, value)
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
    await dojo_site.answer({DojoCheck.kind, *QUICK})
    await bury(dojo_site, Boards.kind)
    assert cache.get(dojo_site.pointer) is None
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


@pytest.mark.parametrize("date", ["0100-01-01 BC", "-infinity", "infinity", None])
@pytest.mark.parametrize("whole", [False, True], ids=["of a user", "in a whole pass"])
async def test_a_solve_dated_outside_of_our_era_counts(
    dojo_site: DojoSite, cache: "redis.Redis", date: str | None, whole: bool
) -> None:
    """Python has no such date; the date only decides about windows."""
    await dojo_site.solve(1, 1)
    await dojo_site.answer()
    with dojo_site.webapp.engine.begin() as connection:
        statement = "UPDATE submissions SET date = :date WHERE user_id = :user_id"
        connection.execute(sa.text(statement), {"date": date, "user_id": dojo_site.users[1].id})
    entries = UserEntries(dojo_site.dojo.dojo_id, dojo_site.users[1].id)
    await dojo_site.queue.enqueue([PendingJob(dojo_site.whole if whole else entries)])
    await dojo_site.answer({Boards.kind, UserEntries.kind})
    assert not cache.exists(keys.job(entries.name))
    prefix = dojo_site.prefix(cache)
    first, second = (str(user.id).encode() for user in dojo_site.users[:2])
    recent = {b"-", first, second} if date == "infinity" else {b"-", first}
    assert {*cache.zrange(f"{prefix}:dojo:7", 0, -1)} == recent
    assert cache.zcard(f"{prefix}:dojo:0") == 3


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
        await dojo_site.queue.enqueue([PendingJob(dojo_site.whole)])
        assert dojo_site.whole.name in await dojo_site.answer({Boards.kind})
    assert cache.zcard(f"{dojo_site.prefix(cache)}:2999:0") == 1
    assert len(cache.keys(f"{keys.BOARDS}*@*:2999:*")) == 5, "the old state is removed"
    for page in range(0, 3000, 500):
        names = [keys.scoreboard(dojo_site.dojo.dojo_id, i) for i in range(page, page + 500)]
        cache.delete(*names)
    await dojo_site.queue.enqueue([PendingJob(Scoreboard(dojo_site.dojo.dojo_id))])
    await dojo_site.answer()
    assert cache.get(keys.scoreboard(dojo_site.dojo.dojo_id, 2999)) == b"[]"


async def test_a_job_whose_key_was_evicted_has_no_cooldown(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """Where the state is there, the array is made from it; else there is a whole pass."""
    attempt = await dojo_site.lease(dojo_site.whole)
    built = await dojo_site.build(attempt)
    answers = {dojo_site.whole.name: built}
    assert statuses(await dojo_site.queue.complete(attempt, answers, cooldown=600.0)) == [
        "completed"
    ]
    await dojo_site.answer()
    cache.delete(keys.scoreboard(dojo_site.dojo.dojo_id))
    await dojo_site.queue.sweep("0", 1000)
    assert await dojo_site.answer() == set()
    check(cache, world_of(dojo_site.webapp.engine))
    cache.delete(dojo_site.pointer)
    await dojo_site.queue.sweep("0", 1000)
    assert (await dojo_site.queue.lease(LeaseRequest({Boards.kind: 1}))).attempt is not None
