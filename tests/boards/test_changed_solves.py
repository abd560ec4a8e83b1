"""A solve is looked up alone, and the stored entries of other challenges stay."""

from typing import Any

import pytest
import redis
import sqlalchemy as sa

from statsd import keys, schema
from statsd.calculators.dojo_arrays import Exports
from statsd.calculators.user_entries import UserEntries, grouped
from statsd.jobs.pending import PendingJob
from tests.oracles.stored_boards import check, world_of
from tests.support.dojo_site import DojoSite
from tests.support.webapp import User


def job_of(site: DojoSite, user: User) -> UserEntries:
    return UserEntries(site.dojo.dojo_id, user.id)


async def looked_up(site: DojoSite) -> dict[UserEntries, list[int]]:
    """Answer the pending jobs of users; return the challenges of the entries that were read."""
    found: dict[UserEntries, list[int]] = {}
    execute = site.execute

    async def noted(jobs: Any, attempt: Any) -> Any:
        answers = await execute(jobs, attempt)
        for job, answer in answers.items():
            entries = answer.boards.get("user_entries", {}).get("entries", [])
            if isinstance(job, UserEntries):
                found[job] = sorted(each.challenge_id for each in grouped(entries))
        return answers

    site.execute = noted  # type: ignore[method-assign]
    await site.answer({UserEntries.kind})
    site.execute = execute  # type: ignore[method-assign]
    return found


async def test_only_the_entries_of_the_challenge_are_read(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    job = job_of(dojo_site, dojo_site.users[0])
    for challenge in (1, 2):
        await dojo_site.solve(0, challenge)
        assert await looked_up(dojo_site) == {job: [dojo_site.challenges[challenge]]}
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))


async def test_a_deleted_solve_takes_only_its_own_entries_away(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    for challenge in (1, 2):
        await dojo_site.solve(0, challenge)
    await dojo_site.answer()
    await dojo_site.delete_solve(0, 1)
    assert await looked_up(dojo_site) == {job_of(dojo_site, dojo_site.users[0]): []}
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))


async def test_with_another_cause_all_entries_are_read(dojo_site: DojoSite) -> None:
    job = job_of(dojo_site, dojo_site.users[0])  # who has solved the first challenge
    await dojo_site.solve(0, 1)
    await dojo_site.queue.enqueue([PendingJob(job)])
    assert await looked_up(dojo_site) == {job: sorted(dojo_site.challenges[:2])}


@pytest.mark.usefixtures("publishing")
async def test_a_whole_pass_is_not_undone_by_a_solve_meanwhile(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """The record before it lacked a solve, of which no event came."""
    await dojo_site.answer()
    with dojo_site.webapp.engine.begin() as connection:
        silent = sa.insert(schema.submissions).values(
            user_id=dojo_site.users[0].id, challenge_id=dojo_site.challenges[3], type="correct",
            date=sa.func.now(),
        )  # fmt: skip
        connection.execute(silent)
    attempt = await dojo_site.lease(dojo_site.whole)
    await dojo_site.solve(0, 1)
    await dojo_site.answer({UserEntries.kind})  # in the state before
    built = await dojo_site.build(attempt)
    await dojo_site.queue.complete(attempt, {dojo_site.whole.name: built})
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))


async def test_a_solve_of_a_user_who_was_hidden_meanwhile_takes_the_others_away(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """No event told of it."""
    await dojo_site.answer()
    with dojo_site.webapp.engine.begin() as connection:
        own = sa.update(schema.users).where(schema.users.c.id == dojo_site.users[0].id)
        connection.execute(own.values(hidden=True))
    await dojo_site.solve(0, 1)
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))


async def test_arrays_after_an_interrupted_pass_go_with_their_dojo(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """The pass has installed the state, and was killed before it wrote arrays and their index."""
    await dojo_site.answer()
    cache.hdel(keys.KEY_INDEX, dojo_site.whole.name)
    cache.delete(*cache.keys("stats:scoreboard:*"), *cache.keys("stats:crews:*"))
    await dojo_site.solve(0, 1)
    await dojo_site.answer({UserEntries.kind, Exports.kind})
    assert cache.keys("stats:scoreboard:*")
    with dojo_site.webapp.engine.begin() as connection:
        for table in reversed(schema.metadata.sorted_tables):
            if "dojo_id" in table.columns:
                connection.execute(sa.delete(table))
    await dojo_site.queue.enqueue([PendingJob(dojo_site.whole)])
    await dojo_site.answer()
    left = [
        key for kind in ("scoreboard", "crews", "scores") for key in cache.keys(f"stats:{kind}:*")
    ]
    assert left == []
