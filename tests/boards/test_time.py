"""Values that change by time are correct at each moment, without events; tests move the clock."""

import random
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators.activity import Activity
from statsd.calculators.dojo_arrays import Exports
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.user_entries import UserEntries
from statsd.jobs.pending import PendingJob
from statsd.jobs.queue import LeaseRequest
from statsd.servers.database import Database
from tests.oracles import naive, naive_awards
from tests.oracles.naive import World
from tests.oracles.naive_boards import scoreboards
from tests.oracles.naive_crews import crews
from tests.oracles.stored_boards import check, check_live, value_of, world_of
from tests.support.daemon_parts import Parts
from tests.support.dojo_site import DojoSite, accept
from tests.support.job_names import listed
from tests.support.processes import statuses
from tests.support.webapp import (
    DojoChallenge,
    Module,
    Submission,
    Visibility,
    WebApp,
    now,
    solve_of,
)

MOMENT = timedelta(milliseconds=5)  # enough to compute the answers
AHEAD = timedelta(days=33)
WINDOWS = [timedelta(days=days) for days in (7, 30, 365)]


class Site(Parts):
    """Two dojos with solves by students of all sorts, some of them long ago."""

    def __init__(self, cache: Redis, database: Database, webapp: WebApp, seed: int) -> None:
        super().__init__(cache, database)
        self.webapp = webapp
        chance = random.Random(seed)
        users = [webapp.create_user(name=f"u{i}{tag}") for i, tag in enumerate(["", " [x]", "[x]"])]
        users.append(webapp.create_user(hidden=True))
        for official in (True, False):
            dojo = webapp.create_dojo(4, official=official)
            challenges = webapp.challenge_ids(dojo)
            webapp.add(Module(dojo_id=dojo.dojo_id, module_index=1, id="n", name="N"))
            webapp.add(
                DojoChallenge(
                    dojo_id=dojo.dojo_id, module_index=1, challenge_index=0, id="requeued",
                    challenge_id=challenges[0], required=True,
                )
            )  # fmt: skip
            soon = [now() + timedelta(days=chance.uniform(0, 20)) for _ in range(2)]
            for index, bounds in enumerate([{"start": soon[0]}, {"stop": soon[1]}]):
                webapp.add(
                    Visibility(
                        dojo_id=dojo.dojo_id, module_index=0, challenge_index=index, **bounds
                    )
                )
            for user in users:
                for challenge_id in chance.sample(challenges, 3):
                    days = chance.choice([0, 5, 20, 29, 350]) + chance.random()
                    webapp.add(solve_of(user, challenge_id, timedelta(days=days)))

    def check(self, cache: "redis.Redis", moment: datetime) -> None:
        """Assert that all values agree with the definition for a moment."""
        world = world_of(self.webapp.engine)
        check(cache, world, moment)
        for key, value in naive_awards.site(world, moment).items():
            assert (value_of(cache, key) or value) == value
            assert value_of(cache, key) is not None or not value.get("total_solves")


def moments_of_change(world: World, begin: datetime) -> Iterator[datetime]:
    """Yield the moments at which a value may change by time."""
    for solve in world.submissions:
        yield from (solve["date"] + window for window in WINDOWS)
    for bounds in world.dojo_challenge_visibilities:
        yield from filter(None, (bounds["start"], bounds["stop"]))
    midnight = datetime.combine(begin.date(), time.min)
    yield from (midnight + timedelta(days=days) for days in range(1, AHEAD.days))


@pytest.mark.parametrize("seed", range(3))
async def test_all_values_are_correct_before_and_after_each_change_by_time(
    async_cache: Redis, cache: "redis.Redis", snapshots: Database, webapp: WebApp, seed: int
) -> None:
    site = Site(async_cache, snapshots, webapp, seed)
    await site.start()
    begin = await site.now()
    site.check(cache, begin)
    moments = sorted(set(moments_of_change(world_of(webapp.engine), begin)))
    ahead = [moment for moment in moments if begin + MOMENT < moment < begin + AHEAD]
    assert len(ahead) > 40
    for moment in ahead:
        for around in (moment - MOMENT, moment + timedelta(microseconds=1)):
            if around > await site.now():
                await site.move(around)
                await site.answer()
                site.check(cache, await site.now())


async def test_a_solve_leaves_each_window_at_its_own_moment(
    async_cache: Redis, cache: "redis.Redis", snapshots: Database, webapp: WebApp
) -> None:
    user, dojo = webapp.create_user(), webapp.create_dojo()
    solve = solve_of(user, webapp.challenge_ids(dojo)[0])
    webapp.add(solve)
    parts = Parts(async_cache, snapshots)
    await parts.start()

    def windows() -> list[int]:
        return [len(value_of(cache, keys.scoreboard(dojo.dojo_id, None, d))) for d in (0, 7, 30)]

    for days, before, after in ((7, [1, 1, 1], [1, 0, 1]), (30, [1, 0, 1], [1, 0, 0])):
        leaves = solve.date + timedelta(days=days)
        await parts.move(leaves - MOMENT)
        await parts.answer()
        assert windows() == before
        await parts.move(leaves)
        await parts.answer()
        assert windows() == after
    key = keys.activity(user.id)
    await parts.move(solve.date + timedelta(days=365) - MOMENT)
    await parts.answer()
    assert value_of(cache, key)["total_solves"] == 1
    await parts.move(solve.date + timedelta(days=365))
    await parts.answer()
    assert value_of(cache, key)["total_solves"] == 0


async def test_jobs_without_a_next_change_are_not_scheduled(
    async_cache: Redis, cache: "redis.Redis", snapshots: Database, webapp: WebApp
) -> None:
    """For a deleted dojo, and for deleted solves."""
    user, dojo = webapp.create_user(), webapp.create_dojo()
    webapp.solve(user, webapp.challenge_ids(dojo)[0])
    parts = Parts(async_cache, snapshots)
    await parts.start()
    names: Any = cache.zrange(keys.CHANGES, 0, -1)
    scheduled = listed(name.decode() for name in names)
    assert sorted(scheduled) == [Activity(user.id).name, DojoStats(dojo.dojo_id).name]
    assert cache.zrange(keys.BOARD_CHANGES, 0, -1) == [str(dojo.dojo_id).encode()]
    webapp.delete([dojo, user])
    await parts.queue.enqueue([])
    await parts.cache.delete(f"{keys.INTERNAL}watermark")
    await parts.search()
    assert cache.zcard(keys.CHANGES) == 0
    assert cache.zcard(keys.BOARD_CHANGES) == 0


@pytest.mark.usefixtures("publishing")
async def test_a_solve_added_to_existing_boards_leaves_their_windows(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    await dojo_site.solve(1, 1)
    await dojo_site.answer({UserEntries.kind, DojoStats.kind})
    world = world_of(dojo_site.webapp.engine)
    await dojo_site.move(world.submissions[-1]["date"] + timedelta(days=7))
    await dojo_site.answer({UserEntries.kind, DojoStats.kind})
    check_live(cache, world, dojo_site.row, await dojo_site.now())


@pytest.mark.usefixtures("publishing")
async def test_the_chart_of_the_next_days_needs_no_whole_pass(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """After each midnight (UTC), for as long as the state keeps days; no solve enters it."""
    site, pointer = dojo_site, cache.get(dojo_site.pointer)
    for user, challenge, days in ((0, 1, 5), (1, 1, 5), (1, 2, 29), (2, 0, 59), (2, 3, 61)):
        await site.solve(user, challenge, ago=timedelta(days=days))
    await site.answer()
    world = world_of(site.webapp.engine)
    for _ in range(65):
        midnight = datetime.combine(await site.now(), time.min) + timedelta(days=1)
        for around in (midnight - MOMENT, midnight + timedelta(microseconds=1)):
            await site.move(around)
            names = await site.answer({DojoStats.kind})
            check_stats(site, cache, world, await site.now())
        assert names == {site.stats.name}
    assert cache.get(site.pointer) == pointer
    await site.solve(1, 3)  # dated today; the state's moment is two months later
    assert site.whole.name not in await site.answer()
    check(cache, world_of(site.webapp.engine), await site.now())


def check_stats(site: DojoSite, cache: "redis.Redis", world: World, moment: datetime) -> None:
    value = value_of(cache, keys.dojo_stats(site.dojo.reference_id))
    naive.check_dojo_stats(value, naive.dojo_stats(world, site.row, moment))


@pytest.mark.usefixtures("publishing")
async def test_a_solve_leaves_windows_without_the_database(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """It follows from the stored entries of the user, whoever leases jobs next."""
    nowhere = "postgresql+asyncpg://nobody@127.0.0.1:1/none"
    unreachable = Database(nowhere, pool_size=1, statement_timeout=1, prepared_statements=False)
    alone = Parts(dojo_site.cache, unreachable)
    for user, days in ((1, 3), (2, 20)):
        await dojo_site.solve(user, 1, ago=timedelta(days=days))
    await dojo_site.answer()
    world, pointer = world_of(dojo_site.webapp.engine), cache.get(dojo_site.pointer)
    moments = [each["date"] + days for each in world.submissions for days in WINDOWS[:2]]
    row = dojo_site.row
    for leaves in sorted(each for each in moments if each > now()):
        await alone.move(leaves + timedelta(microseconds=1))
        assert await alone.answer({Exports.kind}) == set()
        moment = await alone.now()
        wanted = scoreboards(world, row, moment) | crews(world, row, moment)
        assert {key: value_of(cache, key) for key in wanted} == wanted
    assert cache.get(dojo_site.pointer) == pointer
    assert cache.zcard(keys.BOARD_CHANGES) == 0
    await unreachable.close()


@pytest.mark.usefixtures("publishing")
@pytest.mark.parametrize("days", [7, 30])
async def test_entries_that_are_put_after_a_solve_left_a_window(
    dojo_site: DojoSite, cache: "redis.Redis", days: int
) -> None:
    """Scores move from what is written, not from what the old entries are worth by now."""
    await dojo_site.solve(0, 1, ago=timedelta(days=days - 1))
    await dojo_site.answer()
    entries = UserEntries(dojo_site.dojo.dojo_id, dojo_site.users[0].id)
    attempt = await dojo_site.lease(entries)
    dojo_site.webapp.solve(dojo_site.users[0], dojo_site.challenges[2])
    answers = await dojo_site.execute([entries], attempt)
    [*_, leaving, _] = world_of(dojo_site.webapp.engine).submissions
    await dojo_site.move(leaving["date"] + timedelta(days=days) + timedelta(microseconds=1))
    oldest: Any = {entries.name: answers[entries]._replace(oldest=10.0**9)}
    assert statuses(await dojo_site.queue.complete(attempt, oldest)) == ["completed"]
    await accept(dojo_site)
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine), await dojo_site.now())


@pytest.mark.usefixtures("publishing")
async def test_more_users_leave_a_window_at_once_than_one_step_moves(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """A bulk import, for example: all of them have solved at the same moment."""
    date = now() - timedelta(days=6)
    users = [dojo_site.webapp.create_user() for _ in range(120)]
    solves = [
        Submission(user_id=user.id, challenge_id=dojo_site.challenges[0], date=date, type="correct")
        for user in users
    ]
    dojo_site.webapp.add(*solves)
    await dojo_site.consume()
    await dojo_site.move(date + timedelta(days=7, microseconds=1))
    for _ in range(4):
        await dojo_site.queue.lease(LeaseRequest({}))
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine), await dojo_site.now())


@pytest.mark.usefixtures("publishing")
async def test_statistics_of_a_dojo_without_boards_change_by_time(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    cache.delete(dojo_site.pointer)
    await dojo_site.queue.enqueue([PendingJob(dojo_site.stats)])
    await dojo_site.answer({DojoStats.kind})
    [solve] = world_of(dojo_site.webapp.engine).submissions
    leaves = solve["date"] + timedelta(days=7)
    await dojo_site.move(datetime.combine(leaves.date(), time.min))
    await dojo_site.answer({DojoStats.kind})
    reference = keys.dojo_stats(dojo_site.dojo.reference_id)
    assert value_of(cache, reference)["recent_solves"]
    await dojo_site.move(leaves)
    await dojo_site.answer({DojoStats.kind})
    assert not value_of(cache, reference)["recent_solves"]
