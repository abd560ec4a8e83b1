"""Solves without an event are found, and no others."""

from collections.abc import Iterable, Sequence
from time import monotonic
from typing import cast

import pytest
import redis
import sqlalchemy as sa
from redis.asyncio import Redis

from statsd import keys
from statsd.calculators.dojo_arrays import Boards
from statsd.calculators.dojo_stats import DojoStats
from statsd.consistency import missed_solves
from statsd.consistency.missed_solves import OVERLAP, MissedSolves, MissedSolvesFinder
from statsd.consistency.reconcile import Reconcile, Reconciler
from statsd.consistency.stream_position import stream_position
from statsd.events import ChallengeSolve
from statsd.handlers.registry import Lookup
from statsd.handlers.solve import challenge_solved
from statsd.job import SECOND, Priority
from statsd.jobs.attempt import Answer
from statsd.jobs.pending import Consequence, PendingJob
from statsd.jobs.queue import LeaseRequest
from statsd.servers.database import Database
from statsd.servers.docker import Containers
from tests.consistency.missed_solves.site import Site, failed_attempts, of_everything, of_missed
from tests.support.processes import DEADLINE
from tests.support.webapp import WebApp, solve_of

CLOCK = keys.INTERNAL + "clock"


async def test_a_solve_without_an_event_is_found_at_the_second_scan(site: Site) -> None:
    site.webapp.solve(site.user, site.challenges[0])
    assert await site.search() == set()
    assert await site.search() == of_missed(site)
    assert await site.search() == set()
    assert (await site.watermark()).missed == 1


async def test_solves_from_before_the_start_belong_to_the_cold_start(
    site: Site,
) -> None:
    site.webapp.solve(site.user, site.challenges[0])
    await site.cache.flushall()
    await site.start()
    for _ in range(3):
        assert await site.search() == set()
    assert (await site.watermark()).missed == 0


@pytest.mark.usefixtures("publishing")
async def test_solves_with_events_are_not_handled_twice(site: Site) -> None:
    for challenge_id in site.challenges:
        site.webapp.solve(site.user, challenge_id)
    await site.consume()
    for _ in range(3):
        assert await site.search() == set()
    watermark = await site.watermark()
    assert watermark.missed == 0
    assert watermark.low >= len(site.challenges)


@pytest.mark.usefixtures("publishing")
async def test_a_solve_whose_event_is_not_accepted_yet_is_not_missed(site: Site) -> None:
    site.webapp.solve(site.user, site.challenges[0])
    for _ in range(3):
        assert await site.search() == set()
    await site.consume()
    assert await site.search() == set()
    assert (await site.watermark()).missed == 0


async def test_a_deleted_suspect_is_forgotten(site: Site) -> None:
    solve = solve_of(site.user, site.challenges[0])
    site.webapp.add(solve)
    assert await site.search() == set()
    site.webapp.delete([solve])
    for _ in range(2):
        assert await site.search() == set()
    assert (await site.watermark()).suspects == ()


async def test_acknowledged_entries_left_in_the_stream_delay_nothing(
    site: Site, cache: "redis.Redis"
) -> None:
    entry = cache.xadd(keys.STREAM, {"data": b"left"})
    cache.xreadgroup(keys.GROUP, "another", {keys.STREAM: ">"})
    cache.xack(keys.STREAM, keys.GROUP, entry)
    site.webapp.solve(site.user, site.challenges[0])
    found = [await site.search() for _ in range(2)]
    assert found == [set(), of_missed(site)]


async def test_a_clock_that_is_set_back_delays_nothing(
    async_cache: Redis, snapshots: Database, webapp: WebApp, cache: "redis.Redis"
) -> None:
    """Until the clock has caught up, tokens grow by one each, and so do the ids of entries."""
    site = Site(async_cache, snapshots, webapp, grace=0.2)
    await site.start()
    hour = 3600 * SECOND
    [last, seen] = map(int, cache.hmget(CLOCK, "last", "seen"))  # type: ignore[arg-type]
    cache.hset(CLOCK, mapping={"last": last + hour, "seen": seen + hour})
    cache.xadd(keys.STREAM, {"data": b"in an hour"}, id=f"{(seen + hour) // 1000}-0")
    site.webapp.solve(site.user, site.challenges[0])
    deadline = monotonic() + DEADLINE
    found: set[str] = set()
    # In the last hour of a day, a job for the next day's statistics is pending at once.
    while found != of_missed(site) and monotonic() < deadline:
        found = await site.search()
        await site.consume()
    assert found == of_missed(site)


async def test_reconciling_enqueues_statistics_and_nothing_else(
    site: Site, cache: "redis.Redis"
) -> None:
    site.webapp.solve(site.user, site.challenges[0])
    await site.search()
    await site.audit()
    await site.queue.enqueue([PendingJob(Reconcile())])
    attempt = (await site.queue.lease(LeaseRequest({Reconcile.kind: 1}))).attempt
    assert attempt is not None
    reconciler = Reconciler(site.queue, site.database, only_present=False)
    [answer] = (await reconciler.execute([Reconcile()], attempt)).values()
    names = cast("list[bytes]", cache.zrange(keys.due(Priority.BACKGROUND), 0, -1))
    pending = [name.decode() for name in names]
    assert {*pending} == of_everything(site) | {Containers.kind}
    assert cache.zcard(keys.due(Priority.IDLE)) == 0
    # Whole passes take long; statistics of dojos come within seconds.
    assert pending[0] == DojoStats(site.dojo.dojo_id).name
    assert {*pending[-2:]} == {Boards(site.dojo.dojo_id).name, Containers.kind}
    assert answer == Answer({})


async def test_solves_without_a_challenge_are_ignored(site: Site) -> None:
    """The column allows a null, and no dojo contains it."""
    odd, missed = (solve_of(site.user, challenge_id) for challenge_id in site.challenges[:2])
    odd.challenge_id = None
    site.webapp.add(odd, missed)
    found = [await site.search() for _ in range(2)]
    assert found == [set(), of_missed(site)]
    await site.search()
    assert (await site.watermark()).low == missed.id


async def test_a_solve_that_cannot_be_handled_hides_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A reconcile is enqueued for it instead."""
    first, second = site.challenges[:2]

    async def handler(events: Sequence[ChallengeSolve], lookup: Lookup) -> Iterable[Consequence]:
        if any(event.challenge_id == first for event in events):
            raise ValueError("not this one")
        return await challenge_solved(events, lookup)

    monkeypatch.setattr(missed_solves, "handler_of", lambda _: handler)
    site.webapp.solve(site.user, first)
    site.webapp.solve(site.user, second)
    found = [await site.search() for _ in range(4)]
    assert found == [set(), of_everything(site), set(), set()]
    assert "cannot be handled; reconciling" in caplog.text
    assert (await site.watermark()).low == 2


async def test_the_grace_time_begins_when_a_solve_is_read(site: Site) -> None:
    """Seconds may pass between the lease of the job and its snapshot."""
    await site.queue.enqueue([PendingJob(MissedSolves())])
    attempt = (await site.queue.lease(LeaseRequest({MissedSolves.kind: 1}))).attempt
    assert attempt is not None
    site.webapp.solve(site.user, site.challenges[0])
    seen = (await stream_position(site.cache)).moment
    [answer] = (
        await MissedSolvesFinder(site.cache, site.database).execute([MissedSolves()], attempt)
    ).values()
    assert answer.values[keys.WATERMARK]["wait"]["since"] > seen > attempt.moment


async def test_a_suspect_is_kept_while_many_submissions_follow_before_its_verdict(
    site: Site,
) -> None:
    with site.webapp.engine.begin() as connection:
        early = connection.scalar(sa.text("SELECT nextval('submissions_id_seq')"))
    await failed_attempts(site, OVERLAP // 2)
    for _ in range(3):
        await site.search()
    await site.cache.xadd(keys.STREAM, {"data": b"not accepted yet"})
    solve = solve_of(site.user, site.challenges[0])
    solve.id = early
    site.webapp.add(solve)
    for _ in range(4):
        assert await site.search() == set()
        await failed_attempts(site, OVERLAP)
    await site.consume()
    assert await site.search() == of_missed(site)
