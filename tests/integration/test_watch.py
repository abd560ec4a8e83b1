"""Solves of which no event told are found, and no others."""

from collections.abc import Iterable, Iterator, Sequence
from time import monotonic

import msgspec
import pytest
import redis
import sqlalchemy as sa
from redis.asyncio import Redis

from statsd import embedded, keys, schema, watch
from statsd.accepted import intake
from statsd.client import Publisher, listen
from statsd.database import Database
from statsd.events import ChallengeSolve
from statsd.handlers.solve import challenge_solved
from statsd.marks import SECOND
from statsd.reconcile import Reconcile, Reconciler
from statsd.refresh import Mark, Record
from statsd.registry import Lookup
from statsd.statistics import of_dojo
from statsd.watch import OVERLAP, MissedSolves, Watch, _still_writing
from tests.parts import Parts
from tests.webapp import Dojo, WebApp, solve_of

CLOCK = keys.INTERNAL + "clock"


class Site(Parts):
    """A daemon's parts, and an application with a student and a dojo."""

    def __init__(
        self, cache: Redis, database: Database, webapp: WebApp, *, grace: float = 0
    ) -> None:
        super().__init__(cache, database, grace=grace)
        self.webapp = webapp
        self.user = webapp.create_user()
        self.dojo = webapp.create_dojo(8)
        self.challenges = webapp.challenge_ids(self.dojo)


@pytest.fixture
async def site(async_cache: Redis, snapshots: Database, webapp: WebApp) -> Site:
    site = Site(async_cache, snapshots, webapp)
    await site.start()
    return site


@pytest.fixture
def publishing(webapp: WebApp, redis_server: embedded.Redis) -> Iterator[None]:
    """Let the application publish."""
    publisher = Publisher.from_url(redis_server.url)
    forget = listen(webapp.sessions, publisher)
    yield
    forget()
    publisher.close()


def names_of(dojo: Dojo) -> set[str]:
    return {refresh.name for refresh in of_dojo(dojo.dojo_id)}


async def test_a_solve_of_which_no_event_told_is_found_at_the_second_look(site: Site) -> None:
    site.webapp.solve(site.user, site.challenges[0])
    assert await site.look() == set()
    assert await site.look() == names_of(site.dojo)
    assert await site.look() == set()
    assert (await site.watermark()).missed == 1


async def test_what_was_there_at_the_start_is_the_cold_start_s_business(
    site: Site,
) -> None:
    site.webapp.solve(site.user, site.challenges[0])
    await site.cache.flushall()
    await site.start()
    for _ in range(3):
        assert await site.look() == set()
    assert (await site.watermark()).missed == 0


@pytest.mark.usefixtures("publishing")
async def test_solves_whose_events_came_are_not_looked_at_twice(site: Site) -> None:
    for challenge_id in site.challenges:
        site.webapp.solve(site.user, challenge_id)
    await site.consume()
    for _ in range(3):
        assert await site.look() == set()
    watermark = await site.watermark()
    assert watermark.missed == 0
    assert watermark.low >= len(site.challenges)


@pytest.mark.usefixtures("publishing")
async def test_a_solve_whose_event_is_not_accepted_yet_is_not_missed(site: Site) -> None:
    site.webapp.solve(site.user, site.challenges[0])
    for _ in range(3):
        assert await site.look() == set()
    await site.consume()
    assert await site.look() == set()
    assert (await site.watermark()).missed == 0


@pytest.mark.usefixtures("publishing")
async def test_the_watermark_waits_for_open_transactions_and_finds_what_they_commit(
    site: Site,
) -> None:
    """Its id is smaller than those of solves that are long covered."""
    other = site.webapp.create_user()
    with site.webapp.engine.connect() as connection:
        transaction = connection.begin()
        late_id = connection.scalar(
            sa.insert(schema.submissions)
            .values(
                user_id=other.id,
                challenge_id=site.challenges[0],
                type="correct",
                date=sa.func.now(),
            )
            .returning(schema.submissions.c.id)
        )
        for challenge_id in site.challenges:
            site.webapp.solve(site.user, challenge_id)
        await site.consume()
        for _ in range(3):
            assert await site.look() == set()
        assert (await site.watermark()).low < (late_id or 0)
        transaction.commit()
    found = [await site.look() for _ in range(2)]
    assert found == [set(), names_of(site.dojo)]
    await site.look()
    assert (await site.watermark()).low > (late_id or 0)


async def test_a_transaction_is_waited_for_that_began_after_another_which_outlasts_it(
    site: Site,
) -> None:
    """Nothing that has ended is younger than it, so no snapshot tells that it has begun."""
    engine = site.webapp.engine
    with engine.connect() as older, engine.connect() as younger:
        for connection in (older, younger):
            connection.execute(sa.text("SELECT pg_current_xact_id()"))
        late = younger.scalar(
            sa.insert(schema.submissions)
            .values(
                user_id=site.user.id,
                challenge_id=site.challenges[0],
                type="correct",
                date=sa.func.now(),
            )
            .returning(schema.submissions.c.id)
        )
        attempts = [
            {"user_id": site.user.id, "challenge_id": site.challenges[0], "type": "incorrect"}
        ]
        older.execute(sa.insert(schema.submissions), attempts * (OVERLAP + OVERLAP // 2))
        older.commit()
        for _ in range(4):
            await site.look()
            assert (await site.watermark()).low < (late or 0)
        younger.commit()
    found = [await site.look() for _ in range(2)]
    assert found == [set(), names_of(site.dojo)]


async def test_writers_of_a_server_that_is_gone_are_not_waited_for(site: Site) -> None:
    """Its ends, after a restart or in another cluster, were the ends of all of them."""
    before = await site.watermark()
    held = msgspec.structs.replace(before, writers=("0/4711",))
    await site.cache.set(keys.WATERMARK, msgspec.json.encode(held))
    await failed_attempts(site, 10)
    for _ in range(3):
        await site.look()
    assert (await site.watermark()).low == before.low + 10


def test_a_prepared_transaction_is_waited_for_whatever_its_name() -> None:
    assert _still_writing(["3/1", "4/1"], ["4/1", "5/1", "-1/77"]) == ("4/1", "-1/77")


async def test_a_row_below_the_watermark_is_found_if_it_is_not_far_below(site: Site) -> None:
    """An id may be taken from the sequence long before the row is written."""
    with site.webapp.engine.begin() as connection:
        early = connection.scalar(sa.text("SELECT nextval('submissions_id_seq')"))
    for _ in range(3):
        await failed_attempts(site, OVERLAP // 5)
        await site.look()
    assert (await site.watermark()).low > early
    solve = solve_of(site.user, site.challenges[0])
    solve.id = early
    site.webapp.add(solve)
    found = [await site.look() for _ in range(2)]
    assert found == [set(), names_of(site.dojo)]


async def failed_attempts(site: Site, count: int) -> None:
    """Most submissions are no solves."""
    attempts = []
    for _ in range(count):
        attempt = solve_of(site.user, site.challenges[0])
        attempt.type = "incorrect"
        attempts.append(attempt)
    site.webapp.add(*attempts)


async def test_a_suspect_that_was_deleted_is_forgotten(site: Site) -> None:
    solve = solve_of(site.user, site.challenges[0])
    site.webapp.add(solve)
    assert await site.look() == set()
    site.webapp.delete([solve])
    for _ in range(2):
        assert await site.look() == set()
    assert (await site.watermark()).suspects == ()


async def test_a_database_that_was_restored_from_before_is_watched_from_where_it_is(
    site: Site,
) -> None:
    solves = [solve_of(site.user, challenge_id) for challenge_id in site.challenges[:4]]
    site.webapp.add(*solves)
    for _ in range(3):
        await site.look()
    with site.webapp.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM submissions"))
        connection.execute(sa.text("ALTER SEQUENCE submissions_id_seq RESTART"))
    await site.look()
    site.webapp.solve(site.user, site.challenges[0])
    found = [await site.look() for _ in range(2)]
    assert found == [set(), names_of(site.dojo)]


@pytest.mark.usefixtures("publishing")
async def test_solves_stay_covered_when_the_newest_submissions_are_deleted(site: Site) -> None:
    for challenge_id in site.challenges[:4]:
        site.webapp.solve(site.user, challenge_id)
    await site.consume()
    await failed_attempts(site, OVERLAP)
    for _ in range(3):
        await site.look()
    newest = sa.select(sa.func.max(schema.submissions.c.id) - OVERLAP // 2).scalar_subquery()
    with site.webapp.engine.begin() as connection:
        connection.execute(sa.delete(schema.submissions).where(schema.submissions.c.id > newest))
    for _ in range(4):
        assert await site.look() == set()
    assert (await site.watermark()).missed == 0


async def test_a_database_that_ends_long_before_the_watermark_is_reconciled_and_watched(
    site: Site,
) -> None:
    await failed_attempts(site, 2 * OVERLAP)
    for _ in range(3):
        await site.look()
    with site.webapp.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM submissions"))
        connection.execute(sa.text("ALTER SEQUENCE submissions_id_seq RESTART"))
    site.webapp.solve(site.user, site.challenges[0])
    assert await site.look() == names_of(site.dojo)
    site.webapp.solve(site.user, site.challenges[1])
    found = [await site.look() for _ in range(2)]
    assert found == [set(), names_of(site.dojo)]


@pytest.mark.parametrize("state", [b'{"x":1}', b"\xff", b"[]"])
async def test_a_watermark_that_is_not_understood_is_made_anew(
    site: Site, cache: "redis.Redis", state: bytes
) -> None:
    site.webapp.solve(site.user, site.challenges[0])
    cache.set(keys.WATERMARK, state)
    assert await site.look() == names_of(site.dojo)
    assert (await site.watermark()).low == 1


async def test_a_watermark_of_another_type_is_made_anew(site: Site, cache: "redis.Redis") -> None:
    cache.delete(keys.WATERMARK)
    cache.rpush(keys.WATERMARK, "a list")
    await site.look()
    assert (await site.watermark()).low == 0


async def test_entries_that_were_acknowledged_and_left_in_the_stream_hold_nothing_up(
    site: Site, cache: "redis.Redis"
) -> None:
    entry = cache.xadd(keys.STREAM, {"data": b"left"})
    cache.xreadgroup(keys.GROUP, "another", {keys.STREAM: ">"})
    cache.xack(keys.STREAM, keys.GROUP, entry)
    site.webapp.solve(site.user, site.challenges[0])
    found = [await site.look() for _ in range(2)]
    assert found == [set(), names_of(site.dojo)]


async def test_a_clock_that_is_set_back_holds_nothing_up(
    async_cache: Redis, snapshots: Database, webapp: WebApp, cache: "redis.Redis"
) -> None:
    """Tokens go on by ones then until the clock is where it was, and so do the stream's ids."""
    site = Site(async_cache, snapshots, webapp, grace=0.2)
    await site.start()
    hour = 3600 * SECOND
    [last, seen] = map(int, cache.hmget(CLOCK, "last", "seen"))  # type: ignore[arg-type]
    cache.hset(CLOCK, mapping={"last": last + hour, "seen": seen + hour})
    cache.xadd(keys.STREAM, {"data": b"in an hour"}, id=f"{(seen + hour) // 1000}-0")
    site.webapp.solve(site.user, site.challenges[0])
    deadline = monotonic() + 10
    found: set[str] = set()
    while not found and monotonic() < deadline:
        found = await site.look()
        await site.consume()
    assert found == names_of(site.dojo)


async def test_reconciling_marks_statistics_and_nothing_else(site: Site) -> None:
    await site.look()
    await site.audit()
    await site.marks.mark([Mark(Reconcile())])
    attempt = (await site.marks.take({Reconcile.kind: 1})).attempt
    assert attempt is not None
    reconciler = Reconciler(site.marks, site.database, only_present=False)
    [answer] = (await reconciler.perform([Reconcile()], attempt)).values()
    marked = {record.refresh.name for record in answer.records if isinstance(record, Mark)}
    assert (marked, answer.values) == (names_of(site.dojo), {})


async def test_a_watermark_that_is_lost_leads_to_a_reconciliation(
    site: Site, cache: "redis.Redis"
) -> None:
    site.webapp.solve(site.user, site.challenges[0])
    cache.delete(keys.WATERMARK)
    assert await site.look() == names_of(site.dojo)
    assert await site.look() == set()
    assert (await site.watermark()).missed == 0


async def test_what_is_covered_is_remembered_no_longer_than_it_is_looked_at(
    site: Site, cache: "redis.Redis"
) -> None:
    site.webapp.solve(site.user, site.challenges[0])
    for _ in range(3):
        await site.look()
    assert cache.zrange(keys.COVERED, 0, -1) == [b"-1", b"1"]
    for _ in range(3):
        await failed_attempts(site, OVERLAP)
        await site.look()
    assert cache.zrange(keys.COVERED, 0, -1) == [b"-1"]


async def test_where_redis_forgot_what_is_covered_all_is_reconciled_and_nothing_missed(
    site: Site, cache: "redis.Redis"
) -> None:
    for challenge_id in site.challenges:
        site.webapp.solve(site.user, challenge_id)
    await site.consume()
    for _ in range(3):
        await site.look()
    before = await site.watermark()
    cache.delete(keys.COVERED)
    assert await site.look() == names_of(site.dojo)
    for _ in range(3):
        assert await site.look() == set()
    after = await site.watermark()
    assert (after.low, after.missed) == (before.low, 0)


async def test_solves_of_nothing_are_left_alone(site: Site) -> None:
    """The column allows it, and no dojo contains it."""
    odd, missed = (solve_of(site.user, challenge_id) for challenge_id in site.challenges[:2])
    odd.challenge_id = None
    site.webapp.add(odd, missed)
    found = [await site.look() for _ in range(2)]
    assert found == [set(), names_of(site.dojo)]
    await site.look()
    assert (await site.watermark()).low == missed.id


async def test_a_solve_that_cannot_be_handled_hides_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reconciled instead."""
    first, second = site.challenges[:2]

    async def handler(events: Sequence[ChallengeSolve], lookup: Lookup) -> Iterable[Record]:
        if any(event.challenge_id == first for event in events):
            raise ValueError("not this one")
        return await challenge_solved(events, lookup)

    monkeypatch.setattr(watch, "handler_of", lambda _: handler)
    site.webapp.solve(site.user, first)
    site.webapp.solve(site.user, second)
    found = [await site.look() for _ in range(4)]
    assert found == [set(), names_of(site.dojo), set(), set()]
    assert "cannot be handled; reconciling" in caplog.text
    assert (await site.watermark()).low == 2


async def test_an_id_that_an_open_transaction_took_in_advance_is_waited_for(site: Site) -> None:
    with site.webapp.engine.connect() as connection:
        early = connection.scalar(sa.text("SELECT nextval('submissions_id_seq')"))
        await failed_attempts(site, 2 * OVERLAP)
        for _ in range(4):
            await site.look()
        assert (await site.watermark()).low < early
        values = {"id": early, "user_id": site.user.id, "challenge_id": site.challenges[0]}
        connection.execute(sa.insert(schema.submissions).values(**values, type="correct"))
        connection.commit()
    found = [await site.look() for _ in range(2)]
    assert found == [set(), names_of(site.dojo)]


@pytest.mark.usefixtures("publishing")
async def test_ids_that_were_covered_in_another_database_are_not(site: Site) -> None:
    await failed_attempts(site, 2 * OVERLAP)
    solve = solve_of(site.user, site.challenges[0])
    site.webapp.add(solve)
    await site.consume()
    for _ in range(3):
        await site.look()
    with site.webapp.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM submissions"))
    await site.look()
    again = solve_of(site.user, site.challenges[1])
    with site.webapp.engine.begin() as connection:
        values = {"id": solve.id, "user_id": again.user_id, "challenge_id": again.challenge_id}
        connection.execute(sa.insert(schema.submissions).values(**values, type="correct"))
    found = [await site.look() for _ in range(4)]
    assert names_of(site.dojo) in found


async def test_the_grace_begins_when_a_solve_was_seen(site: Site) -> None:
    """Between a look's beginning and its snapshot there may be seconds."""
    await site.marks.mark([Mark(MissedSolves())])
    attempt = (await site.marks.take({MissedSolves.kind: 1})).attempt
    assert attempt is not None
    site.webapp.solve(site.user, site.challenges[0])
    seen = (await intake(site.cache)).moment
    [answer] = (await Watch(site.cache, site.database).perform([MissedSolves()], attempt)).values()
    assert answer.values[keys.WATERMARK]["wait"]["since"] > seen > attempt.moment


async def test_a_suspect_is_not_forgotten_when_many_others_come_before_it_is_judged(
    site: Site,
) -> None:
    with site.webapp.engine.begin() as connection:
        early = connection.scalar(sa.text("SELECT nextval('submissions_id_seq')"))
    await failed_attempts(site, OVERLAP // 2)
    for _ in range(3):
        await site.look()
    await site.cache.xadd(keys.STREAM, {"data": b"not accepted yet"})
    solve = solve_of(site.user, site.challenges[0])
    solve.id = early
    site.webapp.add(solve)
    for _ in range(4):
        assert await site.look() == set()
        await failed_attempts(site, OVERLAP)
    await site.consume()
    assert await site.look() == names_of(site.dojo)
