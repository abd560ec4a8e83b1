"""A key of a dojo's state vanishes, or becomes something else, just before a script uses it.

Scripts do not roll back, so a script checks what it needs before it writes anything. Afterwards
either the values are exact, or a whole pass is pending that makes them so. Only a key that the
script has no need of is left to the sweep.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import redis
import sqlalchemy as sa

from statsd import keys
from statsd.boards.builder import BuildLostError
from statsd.boards.executors import statistics_of
from statsd.calculators.dojo_arrays import Exports
from statsd.calculators.user_entries import UserEntries
from statsd.job import SECOND
from tests.oracles.stored_boards import check, value_of, world_of
from tests.support.daemon_parts import together
from tests.support.dojo_site import QUICK, DojoSite, accept
from tests.support.interposed import interposed
from tests.support.processes import statuses
from tests.support.webapp import DojoChallenge, Module, Submission, User

OF_OWN = ["", ":users", ":tagged", ":newest", ":until", ":days", ":members", ":log", ":dirty"]
OF_SCOPE = ("0", "7", "30", "items")
OF_DOJO = OF_OWN + [f":dojo:{board}" for board in OF_SCOPE]
OF_MODULE = [f":0:{name}" for name in (*OF_SCOPE, "challenges")]
OF_OTHER = [name.replace(":0:", ":1:", 1) for name in OF_MODULE]
POINTER = "pointer"

pytestmark = pytest.mark.parametrize("way", ["deleted", "text", "list"])


@pytest.fixture
async def site(dojo_site: DojoSite) -> AsyncIterator[DojoSite]:
    """The site with a crew, and with a second module that the tests leave alone."""
    dojo_id = dojo_site.dojo.dojo_id
    dojo_site.webapp.add(Module(dojo_id=dojo_id, module_index=1, id="n", name="Other"))
    dojo_site.webapp.add(
        DojoChallenge(
            dojo_id=dojo_id, module_index=1, challenge_index=0, id="c",
            challenge_id=dojo_site.challenges[3], required=True,
        )
    )  # fmt: skip
    with dojo_site.webapp.sessions.begin() as session:
        session.get_one(User, dojo_site.users[0].id).name = "first [crew]"
    await dojo_site.solve(2, 3)
    await dojo_site.consume()
    yield dojo_site
    assert not await dojo_site.cache.exists(keys.DEAD_LETTERS)


def lose(cache: "redis.Redis", key: str, way: str) -> None:
    """Delete a key, or replace it by something else."""
    was = cache.type(key)
    assert was != b"none", key
    cache.delete(key)
    if way == "list":
        cache.rpush(key, "something else")
    elif way == "text" and was == b"string" and "@" in key:
        cache.sadd(key, "no text")
    elif way == "text":
        cache.set(key, "something else")


def key_named(site: DojoSite, cache: "redis.Redis", name: str) -> str:
    return site.pointer if name == POINTER else site.prefix(cache) + name


def is_pending(cache: "redis.Redis", site: DojoSite) -> bool:
    return cache.exists(keys.job(site.whole.name)) == 1


async def check_healed(
    site: DojoSite, cache: "redis.Redis", name: str, *, by_sweep: bool = False
) -> None:
    """Assert that the values end exact; then heal what is left, for the next loss."""
    pending = is_pending(cache, site)
    await answer_later(site, cache)
    if by_sweep:
        await site.queue.sweep("0", 1000)
        await site.answer()
    try:
        check(cache, world_of(site.webapp.engine))
    except AssertionError as error:
        was = "was" if pending else "was not"
        raise AssertionError(f"loss of {name!r}; a whole pass {was} pending") from error
    await site.queue.sweep("0", 1000)
    await site.answer()
    check(cache, world_of(site.webapp.engine))


async def answer_later(site: DojoSite, cache: "redis.Redis") -> None:
    """Answer all jobs, also those that are due within some seconds."""
    await site.answer()
    cache.hincrby(keys.CLOCK, "offset", 10 * SECOND)
    await site.answer()


async def toggle(site: DojoSite) -> None:
    """Let the second student solve the second challenge, or delete that solve."""
    user, challenge = site.users[1], site.challenges[1]
    with site.webapp.sessions.begin() as session:
        own = sa.select(Submission).filter_by(user_id=user.id, challenge_id=challenge)
        solve = session.scalars(own).one_or_none()
        if solve is not None:
            session.delete(solve)
    if solve is None:
        site.webapp.solve(user, challenge)
    await accept(site)


async def test_before_entries_are_put(site: DojoSite, cache: "redis.Redis", way: str) -> None:
    for name in [*OF_DOJO, *OF_MODULE, POINTER]:
        await toggle(site)
        lose(cache, key_named(site, cache, name), way)
        await site.answer(QUICK)
        site.check_stats(cache)
        assert is_pending(cache, site), name
        await check_healed(site, cache, name)
    for name in OF_OTHER:
        await toggle(site)
        lose(cache, key_named(site, cache, name), way)
        await check_healed(site, cache, name, by_sweep=True)


async def test_before_a_solve_leaves_a_window(
    site: DojoSite, cache: "redis.Redis", way: str
) -> None:
    """The clock moves to the moment at which the first student's solve is a week old."""
    solves = world_of(site.webapp.engine).submissions
    cache.delete(keys.DELAYED)
    for number, name in enumerate([*OF_DOJO, *OF_MODULE, POINTER]):
        solve = solves[0]["date"] + timedelta(days=7)
        with site.webapp.engine.begin() as connection:
            moved = sa.text("UPDATE submissions SET date = :date WHERE id = :id")
            date = solves[0]["date"] + number * timedelta(days=8)
            connection.execute(moved, {"date": date, "id": solves[0]["id"]})
        entries = UserEntries(site.dojo.dojo_id, site.users[0].id)
        attempt = await site.lease(entries)
        await site.queue.complete(
            attempt, {entries.name: (await site.execute([entries], attempt))[entries]}
        )
        await site.answer()
        leaves = solve + number * timedelta(days=8)
        lose(cache, key_named(site, cache, name), way)
        await site.move(leaves + timedelta(microseconds=1))
        await site.answer(QUICK)
        pending = is_pending(cache, site)
        await answer_later(site, cache)
        if not pending:  # nothing but the sweep looks for what no event needs
            await site.queue.sweep("0", 1000)
            await site.answer()
        check(cache, world_of(site.webapp.engine), await site.now())


@pytest.mark.parametrize("of", ["old", "new"])
async def test_before_a_new_state_is_installed(
    site: DojoSite, cache: "redis.Redis", way: str, of: str
) -> None:
    """The second student's solve is only in the old state, from which it has to be copied."""
    for name in [*OF_DOJO, *OF_MODULE, *([POINTER] if of == "old" else [])]:
        client = interposed(site.cache)
        attempt = await site.lease(site.whole)
        old = site.prefix(cache)
        new = keys.generation(site.dojo.dojo_id, attempt.token)

        async def change(name: str = name, old: str = old, new: str = new) -> None:
            await toggle(site)
            await site.answer(QUICK)
            prefix = old if of == "old" else new
            lose(cache, site.pointer if name == POINTER else prefix + name, way)

        client.before = ("boards/install", change)
        builder = statistics_of(client, site.database, rest_factor=0)[site.whole.kind]
        try:
            built = await together(builder.execute([site.whole], attempt))
        except BuildLostError:
            reason = {"error": "lost", "traceback": ""}
            assert await site.queue.fail(attempt, [0.0], reason) == (1, 0.0)
        else:
            assert of == "old", name
            found = await site.queue.complete(attempt, {site.whole.name: built[site.whole]})
            is_needed = name in {*OF_OWN, POINTER}  # boards are not copied, but follow from records
            assert statuses(found) == ["requeued" if is_needed else "completed"], name
        await check_healed(site, cache, name)
        assert not [*cache.scan_iter(f"{new}:*")] or site.prefix(cache) == new


async def test_before_changed_arrays_are_listed(
    site: DojoSite, cache: "redis.Redis", way: str
) -> None:
    for name in [*OF_DOJO, *OF_MODULE, POINTER]:
        await toggle(site)
        await site.answer(QUICK)
        lose(cache, key_named(site, cache, name), way)
        await site.answer({Exports.kind})
        assert is_pending(cache, site), name
        await check_healed(site, cache, name)


async def test_before_arrays_are_read(site: DojoSite, cache: "redis.Redis", way: str) -> None:
    """The list of them was read already; none is published."""
    board = keys.scoreboard(site.dojo.dojo_id)
    for name in [*OF_DOJO, *OF_MODULE, POINTER]:
        await toggle(site)
        await site.answer(QUICK)
        client = interposed(site.cache)
        key = key_named(site, cache, name)

        async def change(key: str = key) -> None:
            lose(cache, key, way)

        client.before = ("boards/read", change)
        exporter = statistics_of(client, site.database, rest_factor=0)[Exports.kind]
        attempt = await site.lease(site.exports)
        before = value_of(cache, board), value_of(cache, keys.updated(board))
        answers: Any = await together(exporter.execute([site.exports], attempt))
        await site.queue.complete(attempt, {site.exports.name: answers[site.exports]})
        assert (value_of(cache, board), value_of(cache, keys.updated(board))) == before
        assert cache.exists(keys.job(site.exports.name)) or is_pending(cache, site)
        await check_healed(site, cache, name)
