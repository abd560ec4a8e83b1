"""Arrays made from the state are of one moment, and only those are made that have changed."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
import sqlalchemy as sa

from statsd import keys
from statsd.boards import exporter
from statsd.boards.executors import statistics_of
from statsd.boards.names import Names, People
from statsd.calculators.dojo_arrays import PARTS, Boards, Exports
from statsd.calculators.user_entries import Person, UserEntries
from statsd.job import SECOND
from statsd.jobs.attempt import Answer
from statsd.jobs.pending import PendingJob
from statsd.schema import submissions
from tests.oracles.naive_boards import challenge_solves, scoreboards, scores
from tests.oracles.naive_crews import crews
from tests.oracles.stored_boards import check, value_of, world_of
from tests.support.daemon_parts import Parts, together
from tests.support.dojo_site import QUICK, DojoSite, accept
from tests.support.interposed import interposed
from tests.support.webapp import (
    Challenge,
    DojoChallenge,
    Membership,
    Module,
    Submission,
    User,
    now,
    solve_of,
)


@pytest.fixture
async def crowd(dojo_site: DojoSite, monkeypatch: pytest.MonkeyPatch) -> DojoSite:
    """The site with more users, and crews whose records are read in several pages."""
    monkeypatch.setattr(exporter, "RECORDS", 1)
    chance = random.Random(1)
    for number in range(12):
        user = dojo_site.webapp.create_user(name=f"u{number}" + " [x]" * (number % 3 == 0))
        dojo_site.users.append(user)
        for challenge in chance.sample(dojo_site.challenges, 2):
            days = chance.choice([0, 6, 29, 31]) + chance.random()
            dojo_site.webapp.solve(user, challenge, ago=timedelta(days=days))
    await dojo_site.consume()
    return dojo_site


class Changing:
    """Random changes of single users, each followed by the answers of its jobs."""

    def __init__(self, site: DojoSite, seed: int) -> None:
        self._site = site
        self._chance = random.Random(seed)

    async def change(self) -> None:
        self._chance.choice([self._solve, self._solve, self._unsolve, self._hide, self._rename])()
        await accept(self._site)
        await self._site.answer(QUICK)

    def _solve(self) -> None:
        user = self._chance.choice(self._site.users)
        with self._site.webapp.sessions.begin() as session:
            own = sa.select(submissions.c.challenge_id).filter_by(user_id=user.id)
            left = sorted({*self._site.challenges} - {*session.scalars(own)})
            if left:
                session.add(solve_of(user, self._chance.choice(left)))

    def _unsolve(self) -> None:
        with self._site.webapp.sessions.begin() as session:
            solves = session.scalars(sa.select(Submission).order_by(submissions.c.id)).all()
            session.delete(self._chance.choice(solves))

    def _hide(self) -> None:
        with self._site.webapp.sessions.begin() as session:
            user = session.get_one(User, self._chance.choice(self._site.users).id)
            user.hidden = not user.hidden

    def _rename(self) -> None:
        with self._site.webapp.sessions.begin() as session:
            user = session.get_one(User, self._chance.choice(self._site.users).id)
            user.name = f"renamed {self._chance.random()}" + self._chance.choice(["", " [x]"])


def moment_of(cache: "redis.Redis", key: str) -> datetime:
    """The as-of of a value, naive UTC."""
    raw: Any = cache.get(keys.updated(key))
    seconds, _, fraction = raw.decode().partition(".")
    at = int(seconds) * SECOND + int(fraction)
    return datetime.fromtimestamp(0, UTC).replace(tzinfo=None) + timedelta(microseconds=at)


@pytest.mark.parametrize("seed", range(8))
async def test_arrays_that_change_while_they_are_made_are_of_one_moment(
    crowd: DojoSite, cache: "redis.Redis", seed: int
) -> None:
    changing = Changing(crowd, seed)
    for _ in range(3):
        await changing.change()
    client, pages = interposed(crowd.cache), 0

    async def change() -> None:
        nonlocal pages
        pages += 1
        if pages <= 3:
            await changing.change()

    client.before = ("HMGET", change)
    execute = statistics_of(client, crowd.database, rest_factor=0)[Exports.kind].execute
    attempt = await crowd.lease(crowd.exports)
    answers: Any = await together(execute([crowd.exports], attempt))
    assert pages >= 3
    world = world_of(crowd.webapp.engine)
    await crowd.queue.complete(attempt, {crowd.exports.name: answers[crowd.exports]})
    made = answers[crowd.exports].values
    assert {keys.scoreboard(crowd.dojo.dojo_id), keys.crews(crowd.dojo.dojo_id)} <= made.keys()
    [moment] = {moment_of(cache, key) for key in made}
    row = crowd.row
    wanted = {
        **scoreboards(world, row, moment), **crews(world, row, moment),
        **scores(world, row), **challenge_solves(world, row),
    }  # fmt: skip
    assert {key: value_of(cache, key) for key in made} == {key: wanted[key] for key in made}
    await crowd.answer()
    check(cache, world_of(crowd.webapp.engine))


async def test_nothing_is_published_of_a_state_that_was_replaced_meanwhile(
    crowd: DojoSite, cache: "redis.Redis"
) -> None:
    """Also scores and challenge solves: the structure of the dojo may have changed."""
    await crowd.solve(1, 1)
    await crowd.answer(QUICK)
    client, pages = interposed(crowd.cache), 0

    async def replace() -> None:
        nonlocal pages
        pages += 1
        if pages == 2:
            whole = await crowd.lease(crowd.whole)
            await crowd.queue.complete(whole, {crowd.whole.name: await crowd.build(whole)})

    client.before = ("HMGET", replace)
    execute = statistics_of(client, crowd.database, rest_factor=0)[Exports.kind].execute
    attempt = await crowd.lease(crowd.exports)
    answers: Any = await together(execute([crowd.exports], attempt))
    assert pages >= 2
    before = {key: cache.get(key) for key in cache.scan_iter("stats:s[c]*")}
    await crowd.queue.complete(attempt, {crowd.exports.name: answers[crowd.exports]})
    assert {key: cache.get(key) for key in cache.scan_iter("stats:s[c]*")} == before
    await crowd.answer()
    check(cache, world_of(crowd.webapp.engine))


async def test_arrays_of_a_module_that_was_removed_meanwhile_are_not_written(
    two_modules: DojoSite, cache: "redis.Redis"
) -> None:
    """The whole pass has deleted them, and nothing would delete them again."""
    site, dojo_id = two_modules, two_modules.dojo.dojo_id
    await site.solve(1, 4)
    await site.answer(QUICK)
    attempt = await site.lease(site.exports)
    made = (await site.execute([site.exports], attempt))[site.exports]
    assert keys.scoreboard(dojo_id, 1) in made.values
    with site.webapp.engine.begin() as connection:
        for table in ("dojo_challenges", "dojo_modules"):
            delete = sa.text(f"DELETE FROM {table} WHERE module_index = 1")
            connection.execute(delete)
    await site.queue.enqueue([PendingJob(site.whole)])
    await site.answer({Boards.kind})
    await site.queue.complete(attempt, {site.exports.name: made})
    assert not cache.keys(f"stats:*:module:{dojo_id}:1*")
    await site.answer()
    check(cache, world_of(site.webapp.engine))


async def test_where_too_many_users_changed_arrays_are_made_later(
    crowd: DojoSite, cache: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "MOST_CHANGED", 1)
    tagged = [i for i, user in enumerate(crowd.users) if user.name.endswith("[x]")]
    await crowd.solve(1, 1)
    await crowd.answer(QUICK)
    client, pages = interposed(crowd.cache), 0

    async def change() -> None:
        nonlocal pages
        pages += 1
        if pages <= 2:
            solved = {
                each["challenge_id"]
                for each in world_of(crowd.webapp.engine).submissions
                if each["user_id"] == crowd.users[tagged[pages]].id
            }
            left = [i for i, each in enumerate(crowd.challenges) if each not in solved]
            await crowd.solve(tagged[pages], left[0])
            await crowd.answer(QUICK)

    client.before = ("HMGET", change)
    execute = statistics_of(client, crowd.database, rest_factor=0)[Exports.kind].execute
    attempt = await crowd.lease(crowd.exports)
    answers: Any = await together(execute([crowd.exports], attempt))
    answer: Answer = answers[crowd.exports]
    assert not answer.values
    await crowd.queue.complete(attempt, {crowd.exports.name: answer})
    assert cache.exists(keys.job(crowd.exports.name))
    cache.hincrby(keys.CLOCK, "offset", 10 * SECOND)  # the pause is over
    await crowd.answer()
    check(cache, world_of(crowd.webapp.engine))


# --- which arrays are made


def dirty(cache: "redis.Redis", site: DojoSite) -> set[str]:
    """The names of the changed arrays."""
    names: Any = cache.zrange(f"{site.prefix(cache)}:dirty", 0, -1)
    return {name.decode() for name in names} - {"-"}


@pytest.fixture
async def two_modules(dojo_site: DojoSite, cache: "redis.Redis") -> DojoSite:
    """The site with a second module, of one challenge that no other has."""
    dojo_id = dojo_site.dojo.dojo_id
    challenge = Challenge()
    dojo_site.webapp.add(challenge)
    dojo_site.challenges.append(challenge.id)
    dojo_site.webapp.add(Module(dojo_id=dojo_id, module_index=1, id="n", name="Other"))
    dojo_site.webapp.add(
        DojoChallenge(
            dojo_id=dojo_id, module_index=1, challenge_index=0, id="c",
            challenge_id=challenge.id, required=True,
        )
    )  # fmt: skip
    await dojo_site.consume()
    await dojo_site.solve(2, 4, ago=timedelta(days=10))
    await dojo_site.consume()
    assert not dirty(cache, dojo_site)
    return dojo_site


async def test_a_solve_changes_the_arrays_of_its_module_and_its_dojo(
    two_modules: DojoSite, cache: "redis.Redis"
) -> None:
    await two_modules.solve(1, 1, ago=timedelta(days=10))
    await two_modules.answer(QUICK)
    boards = {f"b:{scope}:{days}" for scope in ("dojo", "0") for days in (0, 30)}
    assert dirty(cache, two_modules) == boards | {"s:dojo", "s:0", "c:0"}
    await two_modules.answer()
    assert not dirty(cache, two_modules)
    check(cache, world_of(two_modules.webapp.engine))


@pytest.mark.parametrize(
    ("user", "boards"),
    [
        (0, {"dojo:0", "dojo:7", "dojo:30", "0:0", "0:7", "0:30"}),
        (2, {"dojo:0", "dojo:30", "1:0", "1:30"}),
        (1, set()),
    ],
)
async def test_a_rename_changes_the_arrays_with_the_name(
    two_modules: DojoSite, cache: "redis.Redis", user: int, boards: set[str]
) -> None:
    with two_modules.webapp.sessions.begin() as session:
        session.get_one(User, two_modules.users[user].id).name = "renamed"
    await accept(two_modules)
    await two_modules.answer(QUICK)
    assert dirty(cache, two_modules) == {f"b:{board}" for board in boards}
    await two_modules.answer()
    check(cache, world_of(two_modules.webapp.engine))


async def test_a_rename_leaves_other_dojos_alone(
    two_modules: DojoSite, cache: "redis.Redis"
) -> None:
    """Even one whose member the user is."""
    other = two_modules.webapp.create_dojo(2)
    user = two_modules.users[0]
    two_modules.webapp.add(Membership(dojo_id=other.dojo_id, user_id=user.id, type="member"))
    await two_modules.consume()
    await two_modules.answer()
    with two_modules.webapp.sessions.begin() as session:
        session.get_one(User, user.id).name = "renamed"
    await accept(two_modules)
    await two_modules.answer(QUICK)
    assert cache.exists(keys.job(two_modules.exports.name))
    assert not cache.exists(keys.job(Exports(other.dojo_id).name))


async def test_a_member_of_a_crew_who_solves_changes_its_crews(
    two_modules: DojoSite, cache: "redis.Redis"
) -> None:
    """Crews list challenges, so also those windows change in which ranks do not."""
    with two_modules.webapp.sessions.begin() as session:
        session.get_one(User, two_modules.users[0].id).name = "first [crew]"
    await two_modules.consume()
    await two_modules.solve(0, 1)
    await two_modules.answer()
    check(cache, world_of(two_modules.webapp.engine))


async def test_equal_entries_change_no_array(two_modules: DojoSite, cache: "redis.Redis") -> None:
    entries = [UserEntries(two_modules.dojo.dojo_id, user.id) for user in two_modules.users]
    await two_modules.queue.enqueue([PendingJob(each) for each in entries])
    await two_modules.answer({UserEntries.kind})
    assert not dirty(cache, two_modules)
    assert not cache.exists(keys.job(two_modules.exports.name))


async def test_scores_one_microsecond_apart_are_in_order(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """Counts and dates together do not fit into the score of a sorted set."""
    date = now() - timedelta(days=1)
    later = date + timedelta(microseconds=1)
    for user, moment in ((2, date), (1, later)):
        dojo_site.webapp.add(
            Submission(
                user_id=dojo_site.users[user].id, challenge_id=dojo_site.challenges[1],
                date=moment, type="correct",
            )
        )  # fmt: skip
    await dojo_site.consume()
    ranks = value_of(cache, keys.scores(dojo_site.dojo.dojo_id))["ranks"]
    assert ranks.index(dojo_site.users[2].id) < ranks.index(dojo_site.users[1].id)
    check(cache, world_of(dojo_site.webapp.engine))


async def test_arrays_that_a_reader_misses_are_made_from_the_state(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    """No whole pass is necessary, and each is as the definition says."""
    dojo_id, pointer = dojo_site.dojo.dojo_id, cache.get(dojo_site.pointer)
    world, row = world_of(dojo_site.webapp.engine), dojo_site.row
    wanted = {
        **scoreboards(world, row, now()), **crews(world, row, now()),
        **scores(world, row), **challenge_solves(world, row),
    }  # fmt: skip
    assert len(wanted) == 15
    for kind in ("scoreboard", "crews", "scores", "challenge_solves"):
        for key in wanted:
            cache.delete(key)
        [part] = [each for each in PARTS if each.job.kind == kind]
        await dojo_site.queue.enqueue([PendingJob(part.job(dojo_id))])
        await dojo_site.answer()
        assert {key: value_of(cache, key) for key in wanted} == wanted
    assert cache.get(dojo_site.pointer) == pointer


# --- names


def stored_name(cache: "redis.Redis", user: int) -> bytes:
    raw: Any = cache.hget(keys.NAMES, str(user))
    return bytes(raw)


async def test_a_name_that_came_back_is_not_replaced_by_an_older_one(
    parts: Parts, cache: "redis.Redis"
) -> None:
    """Names are read at any time, and written in any order."""
    names = Names(parts.cache, parts.database)
    first, second = Person("first", None), Person("second", None)
    await parts.now()
    token = int(cache.hget(keys.CLOCK, "last") or 0)
    for person, age in ((first, 30), (first, 10), (second, 20)):
        people = People()
        people.add([(7, person)])
        await Names(parts.cache, parts.database).learn(people, token - age)
    assert b"first" in stored_name(cache, 7)
    assert b"first" in (await names.of([[7]]))[7]


async def test_names_that_redis_lost_are_read_from_the_database(
    dojo_site: DojoSite, cache: "redis.Redis"
) -> None:
    cache.delete(keys.NAMES)
    await dojo_site.solve(1, 1)
    await dojo_site.answer()
    check(cache, world_of(dojo_site.webapp.engine))


@pytest.mark.parametrize("lost", [keys.NAMES, keys.NAMES_LOG])
async def test_a_rename_is_shown_after_the_names_or_their_log_were_lost(
    dojo_site: DojoSite, cache: "redis.Redis", lost: str
) -> None:
    """The daemon keeps names; it must not miss that one has changed."""
    await dojo_site.solve(0, 1)
    await dojo_site.answer()
    with dojo_site.webapp.sessions.begin() as session:
        session.get_one(User, dojo_site.users[0].id).name = "renamed"
    await accept(dojo_site)
    await dojo_site.answer(QUICK)
    cache.delete(lost)
    await dojo_site.answer()
    assert value_of(cache, keys.scoreboard(dojo_site.dojo.dojo_id))[0]["name"] == "renamed"
