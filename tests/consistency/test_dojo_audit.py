"""The audit of dojos: whatever part of a state is wrong is found, and does not survive."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from redis.asyncio import Redis

from statsd import keys
from statsd.boards import records
from statsd.boards.exports_switch import ExportsSwitch
from statsd.boards.shape import ITEM
from statsd.calculators.dojo_arrays import Boards, Exports
from statsd.calculators.user_entries import HEADER
from statsd.consistency import dojo_audit, drift_audit
from statsd.consistency.drift_audit import DriftAudit
from statsd.job import SECOND
from statsd.jobs.pending import PendingJob
from statsd.servers.database import Database
from tests.oracles.stored_boards import check, prefix_of, world_of
from tests.support.dojo_site import QUICK, DojoSite, accept
from tests.support.interposed import Interposed, interposed
from tests.support.webapp import Dojo, Membership, Submission, User, WebApp, now, solve_of

Damage = Callable[["redis.Redis", str, int], object]
"""Does damage to a state; takes the prefix of its keys, and the id of a user in a crew."""


@pytest.fixture(autouse=True)
def one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare all values in one step."""
    monkeypatch.setattr(drift_audit, "PAGE", 100)
    monkeypatch.setattr(drift_audit, "LONGEST_WALK", 60.0)


@pytest.fixture(params=["at once", "in slices"])
def slices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare all users of a dojo at once, or one after another."""
    if request.param == "in slices":
        monkeypatch.setattr(records, "FEW", 0)
        monkeypatch.setattr(dojo_audit, "USERS", 1)
        monkeypatch.setattr(dojo_audit, "LOOKED_UP", 1)
        monkeypatch.setattr(dojo_audit, "NAMES", 1)
        monkeypatch.setattr(dojo_audit, "MOST_READ", 1)


@pytest.fixture
async def client(async_cache: Redis) -> Interposed:
    return interposed(async_cache)


@pytest.fixture
async def site(
    client: Interposed,
    snapshots: Database,
    webapp: WebApp,
    publishing: None,  # noqa: ARG001 - as long as the site exists
) -> DojoSite:
    """A site with one dojo, whose first user is in a crew. All users have solved something."""
    site = DojoSite(client, snapshots, webapp)
    with webapp.sessions.begin() as session:
        session.get_one(User, site.users[0].id).name = "first [crew]"
        session.get_one(Dojo, site.dojo.dojo_id).data = {"type": "public"}
    await site.start()
    for user, challenge in ((0, 0), (0, 1), (1, 1), (2, 3)):
        await site.solve(user, challenge)
    await site.answer()
    await site.cache.delete(keys.DELAYED)
    await rested(site)
    return site


async def rested(site: DojoSite) -> None:
    """Let the time pass in which the dojo is not built anew."""
    await site.cache.hincrby(keys.CLOCK, "offset", 60 * SECOND)


async def rounds(site: DojoSite, number: int = 1) -> None:
    """Audit until that many more rounds are complete."""
    end = number
    if await site.cache.exists(keys.AUDIT):
        end += (await site.audit_state()).rounds
    while not await site.cache.exists(keys.AUDIT) or (await site.audit_state()).rounds < end:
        await site.audit()


async def found_in(site: DojoSite) -> set[str]:
    """Return what differs in the dojo, as the last audit has found it."""
    suspect = (await site.audit_state()).suspects.get(site.whole.name)
    return {each.what for each in suspect.findings} if suspect else set()


def user_of(cache: "redis.Redis", prefix: str, user: int) -> bytes:
    record: Any = cache.hget(f"{prefix}:users", str(user))
    return bytes(record)


def set_record(cache: "redis.Redis", prefix: str, user: int, record: bytes) -> None:
    cache.hset(f"{prefix}:users", str(user), record)


def without_last_entry(cache: "redis.Redis", prefix: str, user: int) -> None:
    record = user_of(cache, prefix, user)
    token, name, place, count = HEADER.unpack_from(record)
    rest = record[HEADER.size + 25 * count :]
    entries = record[HEADER.size : HEADER.size + 25 * (count - 1)]
    set_record(cache, prefix, user, HEADER.pack(token, name, place, count - 1) + entries + rest)


def with_other_name(cache: "redis.Redis", prefix: str, user: int) -> None:
    record = user_of(cache, prefix, user)
    token, name, place, count = HEADER.unpack_from(record)
    header = HEADER.pack(token, name ^ 1, place, count)
    set_record(cache, prefix, user, header + record[HEADER.size :])


def ahead_of_time(cache: "redis.Redis", prefix: str, user: int) -> None:
    """No later entries would be accepted."""
    record = user_of(cache, prefix, user)
    token, name, place, _ = HEADER.unpack_from(record)
    set_record(cache, prefix, user, HEADER.pack(token + 3600 * SECOND, name, place, 0))


def set_item(suffix: str, field: int, form: str) -> Damage:
    """Return a function that changes a field of the first item of a scope."""
    at = ITEM.itemsize + field  # behind the sentinel

    def damage(cache: "redis.Redis", prefix: str, _user: int) -> None:
        stored: Any = cache.getrange(prefix + suffix, at, at + struct.calcsize(form) - 1)
        [before] = struct.unpack(form, stored)
        cache.setrange(prefix + suffix, at, struct.pack(form, before + 1))

    return damage


def other_name(cache: "redis.Redis", _prefix: str, user: int) -> None:
    stored: Any = cache.hget(keys.NAMES, str(user))
    token, _, _ = stored.decode().partition("|")
    cache.hset(keys.NAMES, str(user), f'{token}|["Mallory","m@example.com"]')


def changed_text(key: str) -> Damage:
    def damage(cache: "redis.Redis", prefix: str, _user: int) -> None:
        dojo_id = prefix.rpartition(":")[2].partition("@")[0]
        name = key.replace("DOJO", dojo_id)
        raw: Any = cache.get(name)
        assert b"1" in raw
        cache.set(name, raw.replace(b"1", b"7"))

    return damage


def add(key: str, number: float) -> Damage:
    """Return a function that adds to a score of the user."""
    return lambda cache, prefix, user: cache.zincrby(prefix + key, number, str(user))


def count(key: str, field: str) -> Damage:
    """Return a function that adds one to a count."""
    return lambda cache, prefix, _: cache.hincrby(prefix + key, field, 1)


def without(key: str) -> Damage:
    """Return a function that deletes the user's field of a hash."""
    return lambda cache, prefix, user: cache.hdel(f"{prefix}{key}", str(user))


def off_board(cache: "redis.Redis", prefix: str, user: int) -> None:
    cache.zrem(f"{prefix}:0:30", str(user))


def with_ghost(cache: "redis.Redis", prefix: str, _user: int) -> None:
    cache.zadd(f"{prefix}:dojo:30", {"77777": 3.0})


def other_day(cache: "redis.Redis", prefix: str, _user: int) -> None:
    days: Any = cache.hkeys(f"{prefix}:days")
    cache.hincrby(f"{prefix}:days", next(day for day in days if day.startswith(b"u")), 1)


def garbled(cache: "redis.Redis", prefix: str, user: int) -> None:
    set_record(cache, prefix, user, b"what?")


def other_member(cache: "redis.Redis", prefix: str, _user: int) -> None:
    cache.append(f"{prefix}:members", "\1\0\0\0\1")


def other_structure(cache: "redis.Redis", prefix: str, _user: int) -> None:
    cache.hset(prefix, "structure", "another")


def without_name(cache: "redis.Redis", _prefix: str, user: int) -> None:
    cache.hdel(keys.NAMES, str(user))


DAMAGES: dict[str, tuple[Damage, set[str]]] = {
    "score": (add(":dojo:0", 2**31), {"score in dojo:0"}),
    "score of a window": (add(":0:7", 1), {"score in 0:7"}),
    "user off a board": (off_board, {"score in 0:30", "size"}),
    "ghost on a board": (with_ghost, {"size"}),
    "user of an item": (set_item(":dojo:items", 0, "<I"), {"items"}),
    "score of an item": (set_item(":dojo:items", 4, "<q"), {"items"}),
    "score of an item in a module": (set_item(":0:items", 12, "<q"), {"items"}),
    "count of an item": (set_item(":0:items", 28, "<I"), {"items"}),
    "date of an item": (set_item(":dojo:items", 32, "<q"), {"items"}),
    "solves": (count("", "solves"), {"solves"}),
    "challenges": (count(":0:challenges", "77777"), {"challenge"}),
    "days": (other_day, {"day"}),
    "newest": (add(":newest", 1), {"score in newest"}),
    "until": (add(":until", SECOND), {"score in until"}),
    "tag": (without(":tagged"), {"tag"}),
    "record": (without_last_entry, {"record"}),
    "record lost": (without(":users"), {"record"}),
    "record garbled": (garbled, {"record"}),
    "record ahead of time": (ahead_of_time, {"record"}),
    "name in the record": (with_other_name, {"name in the record"}),
    "name": (other_name, {"name"}),
    "name lost": (without_name, {"name"}),
    "members": (other_member, {"memberships"}),
    "structure": (other_structure, {"structure"}),
    "scoreboard": (changed_text("stats:scoreboard:dojo:DOJO:7"), {"array"}),
    "crews": (changed_text("stats:crews:module:DOJO:0:0"), {"array"}),
    "scores": (changed_text("stats:scores:dojo:DOJO"), {"array"}),
    "challenge solves": (changed_text("stats:challenge_solves:module:DOJO:0"), {"array"}),
}


@pytest.mark.usefixtures("slices")
async def test_a_right_state_has_no_drift(site: DojoSite, cache: "redis.Redis") -> None:
    await rounds(site, 3)
    state = await site.audit_state()
    assert (state.suspects, state.drift) == ({}, {})
    check(cache, world_of(site.webapp.engine))


@pytest.mark.usefixtures("slices")
@pytest.mark.parametrize("name", DAMAGES)
async def test_damage_is_found_and_does_not_survive(
    site: DojoSite, cache: "redis.Redis", name: str
) -> None:
    damage, wanted = DAMAGES[name]
    before = site.prefix(cache)
    damage(cache, before, site.users[0].id)
    await site.audit()
    assert await found_in(site) >= wanted
    assert site.whole.name in await site.audit()
    assert site.prefix(cache) != before
    assert (await site.audit_state()).drift == {"boards": 1}
    assert not cache.hexists(keys.DOUBTS, str(site.dojo.dojo_id))
    check(cache, world_of(site.webapp.engine))
    await rounds(site, 2)
    state = await site.audit_state()
    assert (state.suspects, state.drift) == ({}, {"boards": 1})


async def test_an_array_made_from_a_wrong_state_is_made_again(
    site: DojoSite, cache: "redis.Redis"
) -> None:
    """An export would write the same once more."""
    prefix, user = site.prefix(cache), site.users[0].id
    cache.zadd(f"{prefix}:dirty", {"b:dojo:0": 1})
    DAMAGES["user of an item"][0](cache, prefix, user)
    await site.queue.enqueue([PendingJob(Exports(site.dojo.dojo_id))])
    await site.answer()
    with pytest.raises(AssertionError):
        check(cache, world_of(site.webapp.engine))
    await site.audit()
    await site.audit()
    check(cache, world_of(site.webapp.engine))


async def test_until_it_is_built_anew_a_wrong_state_gives_no_statistics(
    site: DojoSite, cache: "redis.Redis"
) -> None:
    cache.hincrby(site.prefix(cache), "solves", 5)
    await site.audit()
    await site.queue.enqueue([PendingJob(DriftAudit())])
    await site.answer({DriftAudit.kind})
    await site.queue.enqueue([PendingJob(site.stats)])
    await site.answer({site.stats.kind})
    site.check_stats(cache)


async def test_changes_without_an_event_are_found(site: DojoSite, cache: "redis.Redis") -> None:
    """A solve, a name, a membership, and a new challenge."""
    first, second, third = site.users
    with site.webapp.engine.begin() as connection:  # the listeners are those of sessions
        for table, values in (
            (
                Submission,
                {
                    "user_id": second.id,
                    "challenge_id": site.challenges[0],
                    "type": "correct",
                    "date": now(),
                },
            ),
            (Membership, {"dojo_id": site.dojo.dojo_id, "user_id": first.id, "type": "admin"}),
        ):
            connection.execute(sa.insert(table).values(values))
        renamed = sa.update(User).where(User.__table__.c.id == third.id)
        connection.execute(renamed.values(name="another [crew]"))
    await site.audit()
    wanted = {"record", "memberships", "name"}
    assert await found_in(site) == wanted
    await site.audit()
    check(cache, world_of(site.webapp.engine))


@pytest.mark.usefixtures("slices")
@pytest.mark.parametrize("script", ["boards/look_up", "boards/records"])
async def test_solves_that_come_in_meanwhile_are_no_drift(
    site: DojoSite, client: Interposed, cache: "redis.Redis", script: str
) -> None:
    """Before each look, a user solves something, or a solve is deleted."""
    number = 0

    async def change() -> None:
        nonlocal number
        client.before = None
        number += 1
        user, challenge = site.users[number % 3], site.challenges[number % 4]
        with site.webapp.sessions.begin() as session:
            own = sa.select(Submission).filter_by(user_id=user.id, challenge_id=challenge)
            solve = session.scalars(own).one_or_none()
            if solve is None:
                solve = solve_of(user, challenge)
                session.add(solve)
            else:
                session.delete(solve)
        await accept(site)
        await site.answer(QUICK | ({Exports.kind} if number % 2 else set()))
        client.before = (script, change)

    await site.cache.delete(keys.DELAYED)
    for _ in range(5):
        client.before = (script, change)
        await site.audit()
        client.before = None
        await site.answer()
        assert await found_in(site) <= {"record"}, "a solve came between two reads"
    await rounds(site, 2)
    state = await site.audit_state()
    assert number >= 10
    assert (state.suspects, state.drift) == ({}, {})
    check(cache, world_of(site.webapp.engine))


async def test_dojos_are_compared_over_many_steps(
    site: DojoSite, cache: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step compares one part of one, or other values; nothing is lost between two steps."""
    monkeypatch.setattr(records, "FEW", 0)
    monkeypatch.setattr(dojo_audit, "USERS", 1)
    monkeypatch.setattr(drift_audit, "LONGEST_WALK", -1.0)
    other = site.webapp.create_dojo()
    await site.consume()
    await rested(site)
    for dojo_id in (site.dojo.dojo_id, other.dojo_id):
        await site.cache.delete(keys.DELAYED)
        DAMAGES["challenges"][0](cache, prefix_of(cache, dojo_id), site.users[0].id)
    stages, answered = set(), set[str]()
    for _ in range(400):
        answered |= await site.audit()
        state = await site.audit_state()
        stages |= {walk.stage for walk in (state.walk, state.judged) if walk}
        if state.drift.get("boards") == 2:
            break
    assert state.drift == {"boards": 2}
    assert stages == {"records", "boards", "arrays"}
    assert answered >= {Boards(site.dojo.dojo_id).name, Boards(other.dojo_id).name}
    check(cache, world_of(site.webapp.engine))


async def test_a_pending_pass_is_waited_for(site: DojoSite, cache: "redis.Redis") -> None:
    DAMAGES["score"][0](cache, site.prefix(cache), site.users[0].id)
    await site.queue.enqueue([PendingJob(site.whole, delay=3600)])
    for _ in range(3):
        assert site.whole.name not in await site.audit()
    assert await found_in(site) == {"score in dojo:0"}
    assert (await site.audit_state()).drift == {}


async def test_arrays_that_are_left_out_are_not_missed(
    site: DojoSite, cache: "redis.Redis", client: Interposed
) -> None:
    """With STATSD_EXPORTS=0, scoreboards and crews are only in the state."""
    await ExportsSwitch(client, exports=False).publish()
    assert not cache.exists(keys.scoreboard(site.dojo.dojo_id))
    await rounds(site, 2)
    state = await site.audit_state()
    assert (state.suspects, state.drift) == ({}, {})
    before = site.prefix(cache)
    DAMAGES["user of an item"][0](cache, before, site.users[0].id)
    await site.audit()
    await site.audit()
    assert site.prefix(cache) != before
    assert (await site.audit_state()).drift == {"boards": 1}


async def test_a_private_dojo_without_arrays_of_boards_is_audited(
    site: DojoSite, client: Interposed
) -> None:
    """Its own scope has no array at all."""
    with site.webapp.sessions.begin() as session:
        session.get_one(Dojo, site.dojo.dojo_id).data = {"type": "private"}
    await accept(site)
    await site.answer()
    await site.cache.delete(keys.DELAYED)
    await ExportsSwitch(client, exports=False).publish()
    await rested(site)
    walk = dojo_audit.Walk(site.dojo.dojo_id)
    audit = dojo_audit.DojoAudit(site.cache, site.database, refill=True)
    stages = []
    while walk.stage != dojo_audit.DONE:
        stages.append(walk.stage)
        await audit.step(walk)
    assert stages.count(dojo_audit.ARRAYS) == 2  # the challenge solves, and the end
    assert walk.findings == []
