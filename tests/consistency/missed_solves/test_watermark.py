"""The watermark never passes an uncommitted solve, and an invalid watermark is replaced."""

import msgspec
import pytest
import redis
import sqlalchemy as sa

from statsd import keys, schema
from statsd.consistency.missed_solves import OVERLAP, _still_writing
from tests.consistency.missed_solves.site import Site, failed_attempts, of_everything, of_missed
from tests.support.job_names import after_solve
from tests.support.webapp import solve_of


@pytest.mark.usefixtures("publishing")
async def test_the_watermark_waits_for_open_transactions_and_finds_their_solves(
    site: Site,
) -> None:
    """The id of the solve committed last is smaller than those of acknowledged solves."""
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
            assert await site.search() == set()
        assert (await site.watermark()).low < (late_id or 0)
        transaction.commit()
    found = [await site.search() for _ in range(2)]
    assert found == [set(), after_solve(other, site.dojo)]
    await site.search()
    assert (await site.watermark()).low > (late_id or 0)


async def test_a_younger_transaction_that_outlasts_an_older_one_is_waited_for(
    site: Site,
) -> None:
    """No younger transaction has ended, so no snapshot shows that it has begun."""
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
            await site.search()
            assert (await site.watermark()).low < (late or 0)
        younger.commit()
    found = [await site.search() for _ in range(2)]
    assert found == [set(), of_missed(site)]


async def test_an_id_reserved_by_an_open_transaction_is_waited_for(site: Site) -> None:
    with site.webapp.engine.connect() as connection:
        early = connection.scalar(sa.text("SELECT nextval('submissions_id_seq')"))
        await failed_attempts(site, 2 * OVERLAP)
        for _ in range(4):
            await site.search()
        assert (await site.watermark()).low < early
        values = {"id": early, "user_id": site.user.id, "challenge_id": site.challenges[0]}
        connection.execute(sa.insert(schema.submissions).values(**values, type="correct"))
        connection.commit()
    found = [await site.search() for _ in range(2)]
    assert found == [set(), of_missed(site)]


async def test_writers_of_a_former_server_are_not_waited_for(site: Site) -> None:
    """With the end of the server, by a restart or a failover, all of them have ended."""
    before = await site.watermark()
    with_writer = msgspec.structs.replace(before, writers=("0/4711",))
    await site.cache.set(keys.WATERMARK, msgspec.json.encode(with_writer))
    await failed_attempts(site, 10)
    for _ in range(3):
        await site.search()
    assert (await site.watermark()).low == before.low + 10


def test_a_prepared_transaction_is_waited_for_whatever_its_name() -> None:
    assert _still_writing(["3/1", "4/1"], ["4/1", "5/1", "-1/77"]) == ("4/1", "-1/77")


async def test_a_row_a_little_below_the_watermark_is_found(site: Site) -> None:
    """An id may be taken from the sequence long before the row is inserted."""
    with site.webapp.engine.begin() as connection:
        early = connection.scalar(sa.text("SELECT nextval('submissions_id_seq')"))
    for _ in range(3):
        await failed_attempts(site, OVERLAP // 5)
        await site.search()
    assert (await site.watermark()).low > early
    solve = solve_of(site.user, site.challenges[0])
    solve.id = early
    site.webapp.add(solve)
    found = [await site.search() for _ in range(2)]
    assert found == [set(), of_missed(site)]


async def test_in_a_restored_database_the_search_continues_from_its_end(
    site: Site,
) -> None:
    solves = [solve_of(site.user, challenge_id) for challenge_id in site.challenges[:4]]
    site.webapp.add(*solves)
    for _ in range(3):
        await site.search()
    site.empty_submissions()
    await site.search()
    site.webapp.solve(site.user, site.challenges[0])
    found = [await site.search() for _ in range(2)]
    assert found == [set(), of_missed(site)]


async def test_a_database_that_ends_long_before_the_watermark_is_reconciled(
    site: Site,
) -> None:
    await failed_attempts(site, 2 * OVERLAP)
    for _ in range(3):
        await site.search()
    site.empty_submissions()
    site.webapp.solve(site.user, site.challenges[0])
    assert await site.search() == of_everything(site)
    site.webapp.solve(site.user, site.challenges[1])
    found = [await site.search() for _ in range(2)]
    assert found == [set(), of_missed(site)]


@pytest.mark.usefixtures("publishing")
async def test_ids_acknowledged_in_another_database_do_not_count(site: Site) -> None:
    await failed_attempts(site, 2 * OVERLAP)
    solve = solve_of(site.user, site.challenges[0])
    site.webapp.add(solve)
    await site.consume()
    for _ in range(3):
        await site.search()
    with site.webapp.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM submissions"))
    await site.search()
    again = solve_of(site.user, site.challenges[1])
    with site.webapp.engine.begin() as connection:
        values = {"id": solve.id, "user_id": again.user_id, "challenge_id": again.challenge_id}
        connection.execute(sa.insert(schema.submissions).values(**values, type="correct"))
    found = [await site.search() for _ in range(4)]
    assert of_missed(site) in found


@pytest.mark.usefixtures("publishing")
async def test_solves_stay_acknowledged_when_the_newest_submissions_are_deleted(site: Site) -> None:
    for challenge_id in site.challenges[:4]:
        site.webapp.solve(site.user, challenge_id)
    await site.consume()
    await failed_attempts(site, OVERLAP)
    for _ in range(3):
        await site.search()
    newest = sa.select(sa.func.max(schema.submissions.c.id) - OVERLAP // 2).scalar_subquery()
    with site.webapp.engine.begin() as connection:
        connection.execute(sa.delete(schema.submissions).where(schema.submissions.c.id > newest))
    for _ in range(4):
        assert await site.search() == set()
    assert (await site.watermark()).missed == 0


@pytest.mark.parametrize("state", [b'{"x":1}', b"\xff", b"[]"])
async def test_an_unreadable_watermark_is_replaced(
    site: Site, cache: "redis.Redis", state: bytes
) -> None:
    site.webapp.solve(site.user, site.challenges[0])
    cache.set(keys.WATERMARK, state)
    assert await site.search() == of_everything(site)
    assert (await site.watermark()).low == 1


async def test_a_watermark_of_another_type_is_replaced(site: Site, cache: "redis.Redis") -> None:
    cache.delete(keys.WATERMARK)
    cache.rpush(keys.WATERMARK, "a list")
    await site.search()
    assert (await site.watermark()).low == 0


async def test_a_lost_watermark_leads_to_a_reconcile(site: Site, cache: "redis.Redis") -> None:
    site.webapp.solve(site.user, site.challenges[0])
    cache.delete(keys.WATERMARK)
    assert await site.search() == of_everything(site)
    assert await site.search() == set()
    assert (await site.watermark()).missed == 0


async def test_acknowledged_solves_are_kept_only_as_long_as_they_are_scanned(
    site: Site, cache: "redis.Redis"
) -> None:
    site.webapp.solve(site.user, site.challenges[0])
    for _ in range(3):
        await site.search()
    assert cache.zrange(keys.ACKNOWLEDGED_SOLVES, 0, -1) == [b"-1", b"1"]
    for _ in range(3):
        await failed_attempts(site, OVERLAP)
        await site.search()
    assert cache.zrange(keys.ACKNOWLEDGED_SOLVES, 0, -1) == [b"-1"]


async def test_lost_acknowledged_solves_lead_to_a_reconcile_and_not_to_missed_solves(
    site: Site, cache: "redis.Redis"
) -> None:
    for challenge_id in site.challenges:
        site.webapp.solve(site.user, challenge_id)
    await site.consume()
    for _ in range(3):
        await site.search()
    before = await site.watermark()
    cache.delete(keys.ACKNOWLEDGED_SOLVES)
    assert await site.search() == of_everything(site)
    for _ in range(3):
        assert await site.search() == set()
    after = await site.watermark()
    assert (after.low, after.missed) == (before.low, 0)
