"""A new state replaces the old one: what changed during the whole pass is in the new one.

A whole pass is fenced by the log of the users who changed since, and not by its age.
"""

from typing import Any

import pytest
import redis
import sqlalchemy as sa

from statsd import keys
from statsd.boards import builder
from statsd.boards.builder import BuildLostError
from statsd.boards.executors import statistics_of
from statsd.calculators.dojo_arrays import Boards, Exports
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.user_entries import UserEntries
from statsd.job import SECOND
from statsd.jobs.attempt import Attempt
from statsd.jobs.pending import PendingJob
from tests.oracles.stored_boards import check, value_of, world_of
from tests.support.daemon_parts import together
from tests.support.dojo_site import QUICK, DojoSite, accept
from tests.support.interposed import interposed
from tests.support.processes import statuses
from tests.support.webapp import DojoChallenge, Module, User

MANY = 9  # users, several times as many as are copied in one call


@pytest.fixture
async def crowd(dojo_site: DojoSite, monkeypatch: pytest.MonkeyPatch) -> DojoSite:
    """The site with more users, of whom a call copies only two."""
    monkeypatch.setattr(builder, "COPIED", 2)
    dojo_site.users += [dojo_site.webapp.create_user() for _ in range(MANY)]
    return dojo_site


async def build(site: DojoSite, attempt: Attempt, client: Any) -> Any:
    own = statistics_of(client, site.database, rest_factor=0)[Boards.kind]
    return (await together(own.execute([site.whole], attempt)))[site.whole]


async def test_many_users_who_change_in_one_step_are_copied(
    crowd: DojoSite, cache: "redis.Redis"
) -> None:
    """One script writes the entries of a whole batch of users, with one token."""
    attempt = await crowd.lease(crowd.whole)
    client, calls = interposed(crowd.cache), 0

    async def change() -> None:
        nonlocal calls
        calls += 1
        for user in range(1, 3 + MANY) if calls == 1 else ():
            await crowd.solve(user, user % 4)
        await crowd.answer({UserEntries.kind})

    client.before = ("boards/install", change)
    built = await build(crowd, attempt, client)
    assert statuses(await crowd.queue.complete(attempt, {crowd.whole.name: built})) == ["completed"]
    assert cache.get(crowd.pointer) == str(attempt.token).encode()
    assert crowd.whole.name not in await crowd.answer()
    check(cache, world_of(crowd.webapp.engine))


async def test_users_who_change_while_others_are_copied_are_copied_too(
    crowd: DojoSite, cache: "redis.Redis"
) -> None:
    """Also one who was copied before: each change puts the user at the end of the log."""
    attempt = await crowd.lease(crowd.whole)
    for user in range(1, 7):
        await crowd.solve(user, 1)
        await crowd.answer({UserEntries.kind})
    client, calls = interposed(crowd.cache), 0

    async def change() -> None:
        nonlocal calls
        calls += 1
        if calls <= 4:
            await crowd.solve(calls, 2)
            await crowd.solve(6 + calls, 0)
            await crowd.answer({UserEntries.kind})

    client.before = ("boards/install", change)
    built = await build(crowd, attempt, client)
    assert calls > 4
    assert statuses(await crowd.queue.complete(attempt, {crowd.whole.name: built})) == ["completed"]
    assert cache.get(crowd.pointer) == str(attempt.token).encode()
    assert crowd.whole.name not in await crowd.answer()
    check(cache, world_of(crowd.webapp.engine))


async def test_a_whole_pass_of_more_than_a_minute_is_installed(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    attempt = await dojo_site.lease(dojo_site.whole)
    seconds = 70

    async def later() -> None:
        await dojo_site.solve(1, 1)
        await dojo_site.answer(QUICK)
        cache.hset(keys.CLOCK, "last", str(attempt.token + seconds * SECOND))

    client = interposed(dojo_site.cache)
    client.before = ("boards/install", later)
    built = await build(dojo_site, attempt, client)
    done = await dojo_site.queue.complete(attempt, {dojo_site.whole.name: built})
    assert statuses(done) == ["completed"]
    assert cache.get(dojo_site.pointer) == str(attempt.token).encode()
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))


async def test_a_whole_pass_from_before_the_log_is_refused(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """It is not known any more who changed meanwhile, so a later pass has to be done."""
    attempt = await dojo_site.lease(dojo_site.whole)
    before = cache.get(dojo_site.pointer)
    await dojo_site.solve(1, 1)
    await dojo_site.answer(QUICK)
    cache.hset(dojo_site.prefix(cache), "log_from", str(attempt.token + 1))
    with pytest.raises(BuildLostError, match="unknown"):
        await dojo_site.build(attempt)
    assert cache.get(dojo_site.pointer) == before
    assert not cache.keys(f"{keys.generation(dojo_site.dojo.dojo_id, attempt.token)}*")
    renewed = await dojo_site.queue.renew(attempt)
    built = await dojo_site.build(renewed)
    await dojo_site.queue.complete(renewed, {dojo_site.whole.name: built})
    assert cache.get(dojo_site.pointer) == str(renewed.token).encode()
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))


async def test_the_log_reaches_back_to_its_oldest_note(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """The oldest notes of a long log are dropped, and earlier passes are refused from then on."""
    attempt = await dojo_site.lease(dojo_site.whole)
    log, noted = f"{dojo_site.prefix(cache)}:log", attempt.token + 1
    cache.zadd(log, {str(10**7 + number): noted + number for number in range(20_000)})
    cache.hset(keys.CLOCK, "last", str(noted + 30_000))
    await dojo_site.solve(1, 1)
    await dojo_site.answer(QUICK)
    log_from = int(cache.hget(dojo_site.prefix(cache), "log_from") or 0)
    assert attempt.token < log_from < noted + 20_000
    notes: Any = cache.zrange(log, 1, 1, withscores=True)
    assert log_from < notes[0][1]
    with pytest.raises(BuildLostError, match="unknown"):
        await dojo_site.build(attempt)


async def test_an_older_whole_pass_does_not_replace_a_newer_one(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """A worker that lost its lease writes its state long after another one has done the pass."""
    attempt = await dojo_site.lease(dojo_site.whole)
    await dojo_site.queue.release()
    await dojo_site.solve(1, 1)
    await dojo_site.answer()
    newer = cache.get(dojo_site.pointer)
    assert newer != str(attempt.token).encode()
    built = await dojo_site.build(attempt)
    assert cache.get(dojo_site.pointer) == newer
    assert not cache.keys(f"{keys.generation(dojo_site.dojo.dojo_id, attempt.token)}*")
    assert statuses(await dojo_site.queue.complete(attempt, {dojo_site.whole.name: built})) == [
        "fenced"
    ]
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))


async def test_the_arrays_of_a_user_who_changed_during_the_pass_are_made_again(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """The arrays of the pass are of its snapshot, and do not replace newer ones."""
    attempt = await dojo_site.lease(dojo_site.whole)
    built = await dojo_site.build(attempt)
    await dojo_site.solve(1, 1)
    await dojo_site.answer()
    done = await dojo_site.queue.complete(attempt, {dojo_site.whole.name: built})
    assert statuses(done) == ["completed"]
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))


async def test_newer_arrays_of_the_old_state_are_made_again(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """They lack what the whole pass has found, and it does not replace them: they are newer."""
    dojo_id = dojo_site.dojo.dojo_id
    with dojo_site.webapp.sessions.begin() as session:
        own = sa.select(DojoChallenge).filter_by(challenge_id=dojo_site.challenges[0])
        session.scalars(own).one().required = False
    await dojo_site.cache.xtrim(keys.STREAM, maxlen=0)
    attempt = await dojo_site.lease(dojo_site.whole)
    client, key = interposed(dojo_site.cache), keys.scoreboard(dojo_id)

    async def miss() -> None:
        cache.delete(key)
        await dojo_site.queue.enqueue([PendingJob(Scoreboard(dojo_id))])
        await dojo_site.answer({Scoreboard.kind, Exports.kind})
        assert len(value_of(cache, key)) == 1

    client.before = ("boards/install", miss)
    built = await build(dojo_site, attempt, client)
    await dojo_site.queue.complete(attempt, {dojo_site.whole.name: built})
    await dojo_site.answer()
    assert value_of(cache, key) == []
    check(cache, world_of(dojo_site.webapp.engine))


async def test_a_replaced_state_leaves_nothing(dojo_site: DojoSite, cache: "redis.Redis") -> None:
    old = dojo_site.prefix(cache)
    await dojo_site.queue.enqueue([PendingJob(dojo_site.whole)])
    await dojo_site.answer()
    assert dojo_site.prefix(cache) != old
    assert not cache.keys(f"{old}*")
    generation = f"{dojo_site.dojo.dojo_id}@{cache.get(dojo_site.pointer).decode()}"  # type: ignore[union-attr]
    assert cache.hkeys(keys.GENERATIONS) == [generation.encode()]


async def test_a_sweep_before_the_arrays_are_written_wants_none_of_a_removed_module(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """The key index still names the arrays of the module, which the new state does not have."""
    dojo_id = dojo_site.dojo.dojo_id
    row = DojoChallenge(
        dojo_id=dojo_id, module_index=1, challenge_index=0, id="c",
        challenge_id=dojo_site.challenges[3], required=True,
    )  # fmt: skip
    module = Module(dojo_id=dojo_id, module_index=1, id="n", name="Other")
    dojo_site.webapp.add(module)
    dojo_site.webapp.add(row)
    await dojo_site.consume()
    cache.delete(keys.scoreboard(dojo_id, 1))
    dojo_site.webapp.delete([row])
    dojo_site.webapp.delete([module])
    attempt = await dojo_site.lease(dojo_site.whole)
    built = await dojo_site.build(attempt)
    await dojo_site.queue.sweep("0", 1000)
    await dojo_site.queue.complete(attempt, {dojo_site.whole.name: built})
    await accept(dojo_site)
    await dojo_site.solve(1, 1)
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))


async def test_an_interrupted_whole_pass_leaves_the_old_state(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """Its daemon died before the swap; the job is done again when its lease has ended."""
    attempt = await dojo_site.lease(dojo_site.whole)
    before = cache.get(dojo_site.pointer)
    client = interposed(dojo_site.cache)

    async def die() -> None:
        raise ConnectionError

    client.before = ("boards/install", die)
    with pytest.raises(ConnectionError):
        await build(dojo_site, attempt, client)
    assert cache.get(dojo_site.pointer) == before
    await dojo_site.solve(1, 1)
    await dojo_site.answer(QUICK)
    dojo_site.check_stats(cache)
    await dojo_site.queue.release()
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))
    # The next whole pass of the dojo has removed what was left of it.
    assert not cache.keys(f"{keys.generation(dojo_site.dojo.dojo_id, attempt.token)}*")
    assert cache.hlen(keys.GENERATIONS) == 1
    # What is left of other dojos goes with whole passes that begin an hour later.
    gone = dojo_site.dojo.dojo_id + 1
    left = keys.generation(gone, attempt.token)
    cache.hset(keys.GENERATIONS, f"{gone}@{attempt.token}", ",0,")
    cache.hset(left, "modules", ",0,")
    await dojo_site.queue.enqueue([PendingJob(dojo_site.whole)])
    await dojo_site.answer()
    assert cache.exists(left)
    cache.hset(keys.CLOCK, "last", str(attempt.token + 3601 * SECOND))
    await dojo_site.queue.enqueue([PendingJob(dojo_site.whole)])
    await dojo_site.answer()
    assert not cache.exists(left)
    assert cache.hlen(keys.GENERATIONS) == 1
    check(cache, world_of(dojo_site.webapp.engine), await dojo_site.now())


async def test_renames_during_a_whole_pass_are_shown(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    attempt = await dojo_site.lease(dojo_site.whole)
    client = interposed(dojo_site.cache)

    async def rename() -> None:
        with dojo_site.webapp.sessions.begin() as session:
            session.get_one(User, dojo_site.users[0].id).name = "renamed [x]"
        await accept(dojo_site)
        await dojo_site.answer(QUICK)

    client.before = ("boards/install", rename)
    built = await build(dojo_site, attempt, client)
    await dojo_site.queue.complete(attempt, {dojo_site.whole.name: built})
    await dojo_site.answer()
    [entry] = value_of(cache, keys.scoreboard(dojo_site.dojo.dojo_id))
    assert entry["name"] == "renamed [x]"
    check(cache, world_of(dojo_site.webapp.engine))
