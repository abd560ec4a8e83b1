"""STATSD_EXPORTS=0: without arrays of scoreboards and crews, readers take them from the state."""

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from statsd import keys, scripts
from statsd.boards.exports_switch import ExportsSwitch, has_exports
from statsd.calculators.dojo_arrays import Boards
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.user_entries import UserEntries
from statsd.client import AsyncReader, Reader
from statsd.client.live_crews import CrewsReading
from statsd.client.pages import Board
from statsd.consistency.reconcile import Reconcile, Reconciler
from statsd.dev import embedded
from statsd.job import Priority
from statsd.jobs.pending import PendingJob
from statsd.schema import submissions
from tests.oracles.naive_boards import challenge_solves, scoreboards, scores
from tests.oracles.naive_crews import crews
from tests.oracles.stored_boards import value_of, world_of
from tests.support.commands import Run
from tests.support.daemon_parts import Parts
from tests.support.dojo_site import DojoSite, accept
from tests.support.processes import daemon, eventually, statuses
from tests.support.webapp import (
    Challenge,
    DojoChallenge,
    Module,
    Submission,
    User,
    WebApp,
    now,
    solve_of,
)

pytestmark = pytest.mark.usefixtures("publishing")

NOWHERE = "nobody@127.0.0.1:1/none"
MANY = 10**6  # entries
CHANGED = "STATSD_EXPORTS differs from what was in force; set it alike for all daemons"
TAGS = ["", " [x]", " [X]", "[ two words ]", "[\u200b]", "[a][b]"]
Check = Callable[[], Awaitable[None]]


def switch(parts: Parts, *, exports: bool) -> ExportsSwitch:
    return ExportsSwitch(parts.cache, exports=exports)


def board_keys(cache: "redis.Redis") -> list[bytes]:
    """Everything in Redis under the keys of scoreboards and crews."""
    return [key for name in (keys.SCOREBOARD, keys.CREWS) for key in cache.scan_iter(f"{name}*")]


def arrays_of(site: DojoSite) -> dict[str, Any]:
    """The arrays that are never left out, by the definition."""
    world, row = world_of(site.webapp.engine), site.row
    return {**scores(world, row), **challenge_solves(world, row)}


@pytest.fixture
async def left_out(dojo_site: DojoSite) -> DojoSite:
    """A site with crews in two modules, whose daemon leaves arrays out from now on."""
    chance = random.Random(7)
    dojo_id = dojo_site.dojo.dojo_id
    dojo_site.webapp.add(Challenge(id=9000))
    dojo_site.webapp.add(Module(dojo_id=dojo_id, module_index=1, id="n", name="N"))
    for index, challenge in enumerate([9000, dojo_site.challenges[0]]):
        dojo_site.webapp.add(
            DojoChallenge(
                dojo_id=dojo_id, module_index=1, challenge_index=index, id=f"{index}",
                challenge_id=challenge, required=index == 0,
            )
        )  # fmt: skip
    dojo_site.challenges.append(9000)
    for number in range(12):
        user = dojo_site.webapp.create_user(name=f"u{number}" + TAGS[number % len(TAGS)])
        dojo_site.users.append(user)
        for challenge in chance.sample(dojo_site.challenges, 3):
            days = chance.choice([0, 6, 29, 31]) + chance.random()
            dojo_site.webapp.solve(user, challenge, ago=timedelta(days=days))
    await switch(dojo_site, exports=False).publish()
    await dojo_site.consume()
    await dojo_site.queue.enqueue([PendingJob(dojo_site.whole)])
    await dojo_site.answer()
    return dojo_site


@pytest.fixture
async def check(
    left_out: DojoSite, cache: "redis.Redis", redis_server: embedded.Redis
) -> AsyncIterator[Check]:
    """Assert that both readers return what the definition says, without database and queue."""
    engine = sa.create_engine(f"postgresql+psycopg2://{NOWHERE}")
    async_engine = create_async_engine(f"postgresql+asyncpg://{NOWHERE}")
    reader = Reader.from_url(engine, redis_server.url, enabled=True)
    async_reader = AsyncReader.from_url(async_engine, redis_server.url, enabled=True)

    async def check() -> None:
        world, row, moment = world_of(left_out.webapp.engine), left_out.row, now()
        dojo_id = row["dojo_id"]
        boards, own_crews = scoreboards(world, row, moment), crews(world, row, moment)
        scopes = {None, *(module["module_index"] for module in world.dojo_modules)}
        for index in scopes:
            for days in (0, 7, 30):
                place = (dojo_id, index, days)
                board, crew = boards[keys.scoreboard(*place)], own_crews[keys.crews(*place)]
                assert reader.get_scoreboard(*place, 1, MANY) == (board, len(board), None)
                assert await async_reader.get_scoreboard(*place, 1, MANY) == (
                    board,
                    len(board),
                    None,
                )
                assert reader.get_crews(*place, per_page=MANY) == (crew, len(crew))
                assert await async_reader.get_crews(*place, per_page=MANY) == (crew, len(crew))
        for key, value in arrays_of(left_out).items():
            assert value_of(cache, key) == value
        assert not board_keys(cache)
        assert not cache.keys(f"{keys.INTERNAL}requested:*")

    yield check
    reader.close()
    await async_reader.aclose()
    await async_engine.dispose()


def index_of(cache: "redis.Redis", site: DojoSite) -> set[str]:
    raw: Any = cache.hget(keys.KEY_INDEX, site.whole.name)
    return set(orjson.loads(raw))


async def test_the_arrays_are_deleted_and_readers_take_them_from_the_state(
    left_out: DojoSite, cache: "redis.Redis", check: Check
) -> None:
    assert not await has_exports(left_out.cache)
    assert index_of(cache, left_out) == set(arrays_of(left_out))
    owned: Any = cache.hkeys(keys.KEY_OWNERS)
    assert {key.decode() for key in owned} >= set(arrays_of(left_out))
    await check()
    assert await left_out.queue.sweep("0", 1000) == ("0", 0)
    for _ in range(3):
        assert not await left_out.audit()


@pytest.mark.parametrize("seed", range(3))
async def test_readers_follow_every_change(left_out: DojoSite, check: Check, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(12):
        kind = chance.choice(["solve", "solve", "unsolve", "hide", "rename"])
        with left_out.webapp.sessions.begin() as session:
            user = session.get_one(User, chance.choice(left_out.users).id)
            if kind == "hide":
                user.hidden = not user.hidden
            elif kind == "rename":
                user.name = f"renamed {chance.random()}" + chance.choice(TAGS)
            elif kind == "unsolve":
                found = session.scalars(sa.select(Submission).order_by(submissions.c.id)).all()
                session.delete(chance.choice(found))
            else:
                own = sa.select(submissions.c.challenge_id).filter_by(user_id=user.id)
                left = sorted({*left_out.challenges} - {*session.scalars(own)})
                if left:
                    days = chance.choice([0, 6, 29, 31])
                    session.add(
                        Submission(
                            user_id=user.id, challenge_id=chance.choice(left), type="correct",
                            date=now() - timedelta(days=days),
                        )
                    )  # fmt: skip
        await accept(left_out)
        await left_out.answer()
        await check()


async def test_a_change_of_ranks_alone_enqueues_no_exports(
    left_out: DojoSite, cache: "redis.Redis"
) -> None:
    with left_out.webapp.sessions.begin() as session:
        session.get_one(User, left_out.users[3].id).name = "only the boards show this [x]"
    await accept(left_out)
    await left_out.answer({UserEntries.kind})
    assert not cache.exists(keys.job(left_out.exports.name))
    assert cache.zcard(f"{left_out.prefix(cache)}:dirty") == 1


async def test_a_reader_without_a_state_computes_and_has_it_rebuilt(
    left_out: DojoSite, cache: "redis.Redis", reader: Reader, check: Check
) -> None:
    cache.delete(left_out.pointer)
    place = (left_out.dojo.dojo_id, None, 7)
    wanted = crews(world_of(left_out.webapp.engine), left_out.row, now())[keys.crews(*place)]
    assert reader.get_crews(*place, per_page=MANY).entries == wanted
    assert cache.exists(keys.job(f"crews:{left_out.dojo.dojo_id}"))
    await left_out.answer()
    cache.delete(*cache.keys(f"{keys.INTERNAL}requested:*"))
    await check()


async def test_a_state_that_readers_cannot_read_is_rebuilt(
    left_out: DojoSite, cache: "redis.Redis", check: Check
) -> None:
    cache.hset(f"{left_out.prefix(cache)}:users", left_out.users[4].id, "garbled")
    await left_out.queue.enqueue([PendingJob(Scoreboard(left_out.dojo.dojo_id))])
    await left_out.answer()
    await check()


async def test_names_that_were_lost_come_back_without_any_event(
    left_out: DojoSite, cache: "redis.Redis", check: Check
) -> None:
    cache.delete(keys.NAMES)
    assert (await left_out.queue.sweep("0", 1000))[0] == "0"
    await left_out.answer()
    await check()


async def test_names_that_were_lost_and_begun_again_come_back(
    left_out: DojoSite, cache: "redis.Redis", check: Check
) -> None:
    cache.delete(keys.NAMES)
    with left_out.webapp.sessions.begin() as session:
        session.get_one(User, left_out.users[3].id).name = "the only name [x]"
    await left_out.consume()
    await left_out.answer()
    await check()


# --- the switch


async def test_a_flushed_redis_has_the_switch_again(
    left_out: DojoSite, cache: "redis.Redis", check: Check
) -> None:
    cache.flushall()
    await left_out.consumer.recover()
    own = switch(left_out, exports=False)
    reconciler = Reconciler(left_out.queue, left_out.database, only_present=False, switch=own)
    attempt = await left_out.lease(Reconcile())
    answers = await reconciler.execute([Reconcile()], attempt)
    await left_out.queue.complete(attempt, {each.name: answers[each] for each in answers})
    await left_out.answer()
    await check()


async def test_the_arrays_come_back_with_the_switch(
    left_out: DojoSite, cache: "redis.Redis"
) -> None:
    await switch(left_out, exports=True).publish()
    await left_out.answer()
    world = world_of(left_out.webapp.engine)
    wanted = {
        **scoreboards(world, left_out.row, now()),
        **crews(world, left_out.row, now()),
        **arrays_of(left_out),
    }
    assert {key: value_of(cache, key) for key in wanted} == wanted
    assert index_of(cache, left_out) == set(wanted)
    for _ in range(3):
        assert not await left_out.audit()
    await switch(left_out, exports=False).publish()
    assert not board_keys(cache)
    assert index_of(cache, left_out) == set(arrays_of(left_out))


@pytest.mark.parametrize("is_whole", [True, False])
async def test_arrays_that_were_under_way_are_not_written(
    left_out: DojoSite, cache: "redis.Redis", check: Check, is_whole: bool
) -> None:
    """The job began while arrays were kept; the other arrays of its answer are written."""
    await switch(left_out, exports=True).publish()
    await left_out.answer()
    await left_out.solve(0, 3)
    await left_out.answer({UserEntries.kind})
    job = left_out.whole if is_whole else left_out.exports
    attempt = await left_out.lease(job, Priority.MISSED)
    answers = await left_out.execute([job], attempt)
    assert any(key.startswith(keys.CREWS) for key in answers[job].values)
    await switch(left_out, exports=False).publish()
    completed = await left_out.queue.complete(attempt, {job.name: answers[job]})
    assert set(statuses(completed)) <= {"completed", "requeued"}
    assert not board_keys(cache)
    assert index_of(cache, left_out) == set(arrays_of(left_out))
    await left_out.answer()
    await check()


async def test_marks_of_arrays_that_are_left_out_are_cleared(
    left_out: DojoSite, cache: "redis.Redis", check: Check
) -> None:
    await switch(left_out, exports=True).publish()
    await left_out.answer()
    await left_out.solve(0, 3)
    await left_out.answer({UserEntries.kind})
    dirty = f"{left_out.prefix(cache)}:dirty"
    assert cache.zscore(dirty, "b:dojo:0")
    await switch(left_out, exports=False).publish()
    await left_out.answer()
    assert cache.zcard(dirty) == 1
    await check()


async def test_a_daemon_with_another_setting_is_told(
    left_out: DojoSite, caplog: pytest.LogCaptureFixture
) -> None:
    await switch(left_out, exports=False).publish()
    assert not caplog.records
    await switch(left_out, exports=True).publish(only_if_absent=True)
    assert not await has_exports(left_out.cache)
    await switch(left_out, exports=True).publish()
    assert await has_exports(left_out.cache)
    assert [each.levelno for each in caplog.records] == [logging.WARNING] * 2


async def test_many_arrays_are_deleted_in_steps(
    left_out: DojoSite, cache: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that no key index has: a batch was interrupted after a part of it."""
    monkeypatch.setattr("statsd.boards.exports_switch.SOURCES", {"index": 1, "owners": 1})
    owned = [keys.scoreboard(number) for number in range(1000)]
    for first in range(0, 1000, 100):
        some = owned[first : first + 100]
        index = orjson.dumps([*some[1:], keys.scores(first)])
        cache.mset(dict.fromkeys([*some, *map(keys.updated, some)], "1"))
        cache.hset(keys.KEY_INDEX, Boards(first).name, index)
        cache.hset(keys.KEY_OWNERS, mapping=dict.fromkeys(some, Boards(first).name))
    await switch(left_out, exports=False).publish()
    assert not board_keys(cache)
    assert cache.hget(keys.KEY_INDEX, Boards(0).name) == orjson.dumps([keys.scores(0)])
    assert not {key for key in cache.hkeys(keys.KEY_OWNERS) if b"scoreboard" in key}


# --- very many tagged users


@pytest.fixture
async def many(left_out: DojoSite) -> DojoSite:
    """More members of crews than the script returns records at once."""
    users = [User(name=f"m{n} [c{n % 5}]", hidden=False) for n in range(320)]
    left_out.webapp.add(*users)
    first, second, *_ = left_out.challenges
    left_out.webapp.add(*(solve_of(user, first) for user in users))
    left_out.webapp.add(*(solve_of(user, second, timedelta(days=9)) for user in users[::3]))
    left_out.users += users
    await left_out.consume()
    await left_out.queue.enqueue([PendingJob(left_out.whole)])
    await left_out.answer()
    return left_out


async def test_very_many_records_are_read_in_pages(many: DojoSite, check: Check) -> None:
    assert len(many.users) > 320
    await check()


@pytest.mark.parametrize("days", [0, 7])
@pytest.mark.parametrize("is_rebuilt", [False, True])
async def test_crews_are_of_one_moment_though_they_change_while_they_are_read(
    many: DojoSite, cache: "redis.Redis", days: int, is_rebuilt: bool
) -> None:
    script = cache.register_script(scripts.source("boards/crews"))
    reading = CrewsReading(Board(many.dojo.dojo_id, None, days))
    calls = 0
    while request := reading.request:
        reading.take(script(args=[request]))
        calls += 1
        if calls in {1, 2}:
            await many.solve(100 + calls, 2)
            with many.webapp.sessions.begin() as session:
                session.get_one(User, many.users[110 + calls].id).name = "left the crew"
                session.get_one(User, many.users[calls].id).name = "joined [c1]"
                session.get_one(User, many.users[120 + calls].id).hidden = True
            await accept(many)
            await many.answer()
        if calls == 2 and is_rebuilt:
            await many.queue.enqueue([PendingJob(many.whole)])
            await many.answer()
    key = keys.crews(many.dojo.dojo_id, None, days)
    assert reading.crews == crews(world_of(many.webapp.engine), many.row, now())[key]
    assert calls == (7 if is_rebuilt else 4)  # 1 for the users, 2 for records, 1 for the rest


# --- a daemon


def is_quiet(cache: "redis.Redis", array: str, *, is_there: bool) -> bool:
    """Say whether no job is pending but the audit, and the array is there or not."""
    pending = {name for each in Priority for name in cache.zrange(keys.due(each), 0, -1)}
    return not pending - {b"audit", b"missed_solves"} and bool(cache.exists(array)) is is_there


def test_a_daemon_leaves_arrays_out_and_brings_them_back(
    webapp: WebApp, cache: "redis.Redis", run: Run, variables: dict[str, str], tmp_path: Path
) -> None:
    dojo, user = webapp.create_dojo(), webapp.create_user(name="one [x]")
    webapp.solve(user, webapp.challenge_ids(dojo)[0])
    array = keys.crews(dojo.dojo_id)
    for number, (exports, is_there) in enumerate([("1", True), ("off", False), ("", True)]):
        own = variables | {"STATSD_EXPORTS": exports}
        with daemon(tmp_path / f"{number}.log", **own) as running:
            running.started()
            eventually(partial(is_quiet, cache, array, is_there=is_there), "all is done")
            assert run("verify").code == 0
            assert bool(board_keys(cache)) is is_there
            assert len(running.lines(CHANGED)) == (number > 0)
