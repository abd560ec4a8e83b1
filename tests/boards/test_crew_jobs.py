"""Crews follow from the state without the database, and with every change of their members."""

import pytest
import redis
import sqlalchemy as sa

from statsd import keys
from statsd.boards.exporter import Exporter
from statsd.boards.names import Names
from statsd.calculators.crews import Crews
from statsd.calculators.dojo_arrays import Boards, Exports
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.user_entries import UserEntries
from statsd.jobs.pending import PendingJob
from statsd.servers.database import Database
from tests.oracles.naive_crews import crews as naive_crews
from tests.oracles.stored_boards import check, value_of, world_of
from tests.support.daemon_parts import together
from tests.support.dojo_site import QUICK, DojoSite, accept
from tests.support.processes import statuses
from tests.support.webapp import DojoChallenge, Module, User, now

pytestmark = pytest.mark.usefixtures("publishing")

STATES = {UserEntries.kind, DojoStats.kind, Exports.kind}


def rename(dojo_site: DojoSite, user: int, name: str) -> None:
    with dojo_site.webapp.sessions.begin() as session:
        session.get_one(User, dojo_site.users[user].id).name = name


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


async def test_without_tags_crews_stay_empty(dojo_site: DojoSite, cache: "redis.Redis") -> None:
    assert value_of(cache, keys.crews(dojo_site.dojo.dojo_id)) == []
    await dojo_site.solve(1, 0)
    await dojo_site.answer()
    assert value_of(cache, keys.crews(dojo_site.dojo.dojo_id)) == []
    assert cache.hkeys(f"{dojo_site.prefix(cache)}:tagged") == [b"-"]


async def test_crews_follow_from_the_state_alone(crew: DojoSite, cache: "redis.Redis") -> None:
    """The database is unreachable, and the state is not rebuilt."""
    nowhere = "postgresql+asyncpg://nobody@127.0.0.1:1/none"
    unreachable = Database(nowhere, pool_size=1, statement_timeout=1, prepared_statements=False)
    exporter = Exporter(crew.cache, Names(crew.cache, unreachable), 0)
    pointer = cache.get(crew.pointer)
    await crew.solve(2, 0)  # this user is in no crew, and overtakes a member
    await crew.solve(2, 1)
    await crew.solve(0, 3)
    await crew.answer(QUICK)
    attempt = await crew.lease(crew.exports)
    answers = await together(exporter.execute([crew.exports], attempt))
    done = await crew.queue.complete(attempt, {crew.exports.name: answers[crew.exports]})
    assert statuses(done) == ["completed"]
    check(cache, world_of(crew.webapp.engine))
    assert cache.get(crew.pointer) == pointer
    await unreachable.close()


async def test_a_solve_of_any_user_moves_the_ranks_in_crews(
    crew: DojoSite, cache: "redis.Redis"
) -> None:
    for challenge in (1, 2):
        await crew.solve(2, challenge)
    await crew.answer(STATES)
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


async def test_a_crew_begins_and_ends_without_a_whole_pass(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    pointer = cache.get(dojo_site.pointer)
    for name in ("0 [crew]", "0 [other]", "0", "0 [crew"):
        rename(dojo_site, 0, name)
        await accept(dojo_site)
        await dojo_site.answer(STATES)
        check_crews(dojo_site, cache)
    assert cache.get(dojo_site.pointer) == pointer


async def test_a_solve_that_becomes_one_of_another_challenge_changes_the_crew(
    crew: DojoSite, cache: "redis.Redis"
) -> None:
    """Nothing else changes: neither the number of solves nor the last of them."""
    with crew.webapp.engine.begin() as connection:
        move = sa.text("UPDATE submissions SET challenge_id = :challenge WHERE user_id = :user")
        connection.execute(move, {"challenge": crew.challenges[3], "user": crew.users[0].id})
    await crew.queue.enqueue([PendingJob(UserEntries(crew.dojo.dojo_id, crew.users[0].id))])
    await crew.answer(STATES)
    check_crews(crew, cache)


async def test_a_member_who_is_hidden_leaves_the_crew(crew: DojoSite, cache: "redis.Redis") -> None:
    for hidden in (True, False):
        with crew.webapp.sessions.begin() as session:
            session.get_one(User, crew.users[0].id).hidden = hidden
        await accept(crew)
        await crew.answer(STATES)
        check_crews(crew, cache)


@pytest.mark.parametrize("job", ["whole", "exports"])
async def test_a_tag_of_the_time_of_the_pass_is_removed(
    dojo_site: DojoSite, cache: "redis.Redis", job: str
) -> None:
    """The user had the tag only between two answers of its user entries."""
    rename(dojo_site, 0, "0 [crew]")
    wanted = dojo_site.whole if job == "whole" else dojo_site.exports
    if job == "exports":
        await accept(dojo_site)
        await dojo_site.answer({UserEntries.kind})
    attempt = await dojo_site.lease(wanted)
    answer = (await dojo_site.execute([wanted], attempt))[wanted]
    assert answer.values[keys.crews(dojo_site.dojo.dojo_id)] != b"[]"
    rename(dojo_site, 0, "nobody")
    await accept(dojo_site)
    await dojo_site.answer({UserEntries.kind})  # while the crews are computed
    await dojo_site.queue.complete(attempt, {wanted.name: answer})
    await dojo_site.answer()
    assert value_of(cache, keys.crews(dojo_site.dojo.dojo_id)) == []
    check(cache, world_of(dojo_site.webapp.engine))


async def test_a_tag_that_only_a_whole_pass_has_read_is_removed(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    rename(dojo_site, 0, "0 [crew]")
    attempt = await dojo_site.lease(dojo_site.whole)
    built = await dojo_site.build(attempt)
    await dojo_site.queue.complete(attempt, {dojo_site.whole.name: built})
    assert value_of(cache, keys.crews(dojo_site.dojo.dojo_id))
    rename(dojo_site, 0, "nobody")
    await accept(dojo_site)
    await dojo_site.answer(STATES)
    assert value_of(cache, keys.crews(dojo_site.dojo.dojo_id)) == []


async def test_crews_of_a_module_that_the_state_lacks_are_made_by_a_whole_pass(
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
    await crew.cache.xtrim(keys.STREAM, maxlen=0)  # no event tells of the module
    await crew.queue.enqueue([PendingJob(UserEntries(crew.dojo.dojo_id, crew.users[0].id))])
    await crew.answer(QUICK)
    crew.check_stats(cache)
    assert crew.whole.name in await crew.answer()
    check(cache, world_of(crew.webapp.engine))
    assert value_of(cache, keys.crews(crew.dojo.dojo_id, 5))


async def test_the_crews_of_a_deleted_dojo_are_removed(
    crew: DojoSite, cache: "redis.Redis"
) -> None:
    crew.webapp.delete([crew.dojo])
    await crew.consume()
    assert not cache.keys("stats:crews:*")
    assert not cache.keys(f"{keys.BOARDS}*")
    assert not cache.exists(keys.BOARD_CHANGES, keys.GENERATIONS)
    assert not cache.hexists(keys.DOUBTS, str(crew.dojo.dojo_id))


async def test_crews_are_made_by_a_whole_pass_after_one_was_buried(
    crew: DojoSite, cache: "redis.Redis"
) -> None:
    attempt = await crew.lease(crew.whole)
    with crew.webapp.engine.begin() as connection:
        connection.execute(sa.text("UPDATE users SET name = 'x [other]'"))
    await crew.queue.fail(attempt, [], {"error": "no"})
    await crew.queue.enqueue([PendingJob(Crews(crew.dojo.dojo_id))])  # as a reader does
    assert crew.whole.name in await crew.answer({Crews.kind, Boards.kind})
    check_crews(crew, cache)
