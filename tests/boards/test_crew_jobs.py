"""When crews are enqueued, and that they follow from the boards without the database."""

from typing import Any

import pytest
import redis
import sqlalchemy as sa

from statsd import keys
from statsd.boards.live_boards import LiveBoards
from statsd.calculators.crews import Crews
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.user_entries import UserEntries
from statsd.jobs.attempt import Answer
from statsd.jobs.pending import PendingJob
from statsd.servers.database import Database
from tests.oracles.naive_crews import crews as naive_crews
from tests.oracles.stored_boards import check, value_of, world_of
from tests.support.daemon_parts import together
from tests.support.dojo_site import DojoSite, accept
from tests.support.webapp import DojoChallenge, Module, User, now

pytestmark = pytest.mark.usefixtures("publishing")


def rename(dojo_site: DojoSite, user: int, name: str) -> None:
    with dojo_site.webapp.sessions.begin() as session:
        session.get_one(User, dojo_site.users[user].id).name = name


def crews_of(dojo_site: DojoSite) -> Crews:
    return Crews(dojo_site.dojo.dojo_id)


def check_crews(dojo_site: DojoSite, cache: "redis.Redis") -> None:
    wanted = naive_crews(world_of(dojo_site.webapp.engine), dojo_site.row, now())
    assert {key: value_of(cache, key) for key in wanted} == wanted


@pytest.fixture
async def crew(dojo_site: DojoSite) -> DojoSite:
    """The first two students are a crew."""
    for user in (0, 1):
        rename(dojo_site, user, f"{user} [crew]")
    await dojo_site.solve(1, 0)
    await dojo_site.answer()
    return dojo_site


async def test_without_tags_a_solve_enqueues_no_crews(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    assert value_of(cache, keys.crews(dojo_site.dojo.dojo_id)) == []
    await dojo_site.solve(1, 0)
    assert crews_of(dojo_site).name not in await dojo_site.answer()


async def test_crews_follow_from_the_boards_alone(crew: DojoSite, cache: "redis.Redis") -> None:
    """The database is unreachable, and the boards are not rebuilt."""
    nowhere = "postgresql+asyncpg://nobody@127.0.0.1:1/none"
    unreachable = Database(nowhere, pool_size=1, statement_timeout=1, prepared_statements=False)
    boards = LiveBoards(crew.cache, unreachable)
    token = cache.hget(crew.prefix, "token")
    await crew.solve(2, 0)  # this user is in no crew, and overtakes a member
    await crew.solve(2, 1)
    await crew.solve(0, 3)
    await crew.answer({UserEntries.kind, DojoStats.kind})
    attempt = await crew.lease(crews_of(crew))
    # The test itself enqueued the crews, which does not make the boards doubtful.
    cache.hdel(keys.job(crews_of(crew).name), "not_derived")
    answers = await together(boards.crews([crews_of(crew)], attempt))
    await crew.queue.complete(attempt, {crews_of(crew).name: answers[crews_of(crew)]})
    check_crews(crew, cache)
    assert cache.hget(crew.prefix, "token") == token
    await unreachable.close()


async def test_a_solve_of_any_user_moves_the_ranks_in_crews(
    crew: DojoSite, cache: "redis.Redis"
) -> None:
    for challenge in (1, 2):
        await crew.solve(2, challenge)
    assert crews_of(crew).name in await crew.answer({UserEntries.kind, Crews.kind})
    check_crews(crew, cache)
    [found] = value_of(cache, keys.crews(crew.dojo.dojo_id))
    assert found["best_rank"] == 2


async def test_a_crew_ends_when_its_last_member_leaves(
    crew: DojoSite, cache: "redis.Redis"
) -> None:
    for user in (0, 1):
        rename(crew, user, "nobody")
    await crew.consume()
    assert value_of(cache, keys.crews(crew.dojo.dojo_id)) == []
    check(cache, world_of(crew.webapp.engine))


async def test_a_tag_read_only_by_a_full_calculation_is_removed(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """The user had the tag only between two answers of its user entries."""
    rename(dojo_site, 0, "0 [crew]")
    attempt = await dojo_site.lease(crews_of(dojo_site))
    answer = (await together(dojo_site.boards.crews([crews_of(dojo_site)], attempt)))[
        crews_of(dojo_site)
    ]
    assert answer.values[keys.crews(dojo_site.dojo.dojo_id)]
    rename(dojo_site, 0, "nobody")
    await accept(dojo_site)
    await dojo_site.answer(
        {UserEntries.kind}
    )  # while the crews are computed: they are enqueued again
    await dojo_site.queue.complete(attempt, {crews_of(dojo_site).name: answer})
    await dojo_site.answer()
    assert value_of(cache, keys.crews(dojo_site.dojo.dojo_id)) == []


async def test_a_tag_that_only_the_value_has_is_removed(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    rename(dojo_site, 0, "0 [crew]")
    attempt = await dojo_site.lease(crews_of(dojo_site))
    answer = (await together(dojo_site.boards.crews([crews_of(dojo_site)], attempt)))[
        crews_of(dojo_site)
    ]
    await dojo_site.queue.complete(attempt, {crews_of(dojo_site).name: answer})
    assert value_of(cache, keys.crews(dojo_site.dojo.dojo_id))
    rename(dojo_site, 0, "nobody")
    await accept(dojo_site)
    await dojo_site.answer({UserEntries.kind, Crews.kind})
    assert value_of(cache, keys.crews(dojo_site.dojo.dojo_id)) == []


async def test_crew_windows_of_a_module_without_boards_are_not_used(
    crew: DojoSite, cache: "redis.Redis"
) -> None:
    crew.webapp.add(
        Module(dojo_id=crew.dojo.dojo_id, module_index=5, id="n", name="New"),
        DojoChallenge(
            dojo_id=crew.dojo.dojo_id,
            module_index=5,
            challenge_index=0,
            challenge_id=crew.challenges[0],
            required=True,
        ),
    )
    await accept(crew)
    user_entries = UserEntries(crew.dojo.dojo_id, crew.users[0].id)
    attempt = await crew.lease(user_entries)
    await crew.queue.complete(
        attempt,
        {
            user_entries.name: (await crew.boards.user_entries_of([user_entries], attempt))[
                user_entries
            ]
        },
    )
    for name in (crew.scoreboard.name, crews_of(crew).name):
        cache.hdel(
            keys.job(name), "not_derived"
        )  # so that the boards are not doubtful for this reason
    attempt = await crew.lease(crews_of(crew))
    cache.hdel(keys.job(crews_of(crew).name), "not_derived")
    answer: Answer = (await together(crew.boards.crews([crews_of(crew)], attempt)))[crews_of(crew)]
    assert keys.crews(crew.dojo.dojo_id, 5) in answer.values


async def test_the_crews_of_a_deleted_dojo_are_removed(
    crew: DojoSite, cache: "redis.Redis"
) -> None:
    crew.webapp.delete([crew.dojo])
    await crew.consume()
    assert not cache.keys("stats:crews:*")
    assert not cache.keys(f"{keys.BOARDS}*")


async def test_crews_are_computed_in_full_after_a_rebuild_was_buried(
    crew: DojoSite, cache: "redis.Redis"
) -> None:
    attempt = await crew.lease(crew.scoreboard)
    with crew.webapp.engine.begin() as connection:
        connection.execute(sa.text("UPDATE users SET name = 'x [other]'"))
    await crew.queue.fail(attempt, [], {"error": "no"})
    assert crews_of(crew).name in await crew.answer({Crews.kind})
    check_crews(crew, cache)


async def test_crews_enqueued_by_a_reader_are_computed_in_full(
    crew: DojoSite, cache: "redis.Redis"
) -> None:
    with crew.webapp.engine.begin() as connection:  # without an event
        connection.execute(sa.text("UPDATE users SET name = 'x [other]'"))
    await crew.queue.enqueue([PendingJob(crews_of(crew))])
    await crew.answer({Crews.kind})
    found: Any = value_of(cache, keys.crews(crew.dojo.dojo_id))
    assert [each["key"] for each in found] == ["other"]
