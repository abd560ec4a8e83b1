"""Invalid entries become dead letters with a reason, and delay no event."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
import redis
import sqlalchemy as sa

from statsd import keys
from statsd.dev import embedded
from tests.support.processes import Daemon, daemon, eventually
from tests.support.webapp import Dojo, WebApp

pytestmark = pytest.mark.every_redis

RUBBISH = bytes(range(256)) * 4096  # 1 MiB


class Site(NamedTuple):
    daemon: Daemon
    webapp: WebApp
    cache: "redis.Redis"


@pytest.fixture
def site(
    database: str, redis_server: embedded.Redis, cache: "redis.Redis", tmp_path: Path
) -> Iterator[Site]:
    """A daemon, and an application that publishes nothing by itself."""
    engine = sa.create_engine(sa.make_url(database).set(drivername="postgresql+psycopg2"))
    variables = {
        "DATABASE_URL": database,
        "REDIS_URL": redis_server.url,
        "STATSD_STATEMENT_TIMEOUT": "1",
    }
    with daemon(tmp_path / "log", **variables) as process:
        yield Site(process.started(), WebApp(engine), cache)
    engine.dispose()


def publish(site: Site, kind: str, **payload: object) -> None:
    data = orjson.dumps({"type": kind, "payload": payload})
    site.cache.xadd(keys.STREAM, {"data": data})


def value_of(site: Site, dojo: Dojo) -> Any:
    raw = site.cache.get(keys.dojo_stats(dojo.reference_id))
    return orjson.loads(raw) if raw else None


BAD: dict[str, tuple[dict[Any, Any], str]] = {
    "no data": ({"other": b"{}"}, "no field `data`"),
    "broken JSON": ({"data": b'{"type": "challenge_solve", "payl'}, "truncated"),
    "an unknown type": ({"data": b'{"type": "party_started"}'}, "unknown event type"),
    "a payload of the wrong shape": (
        {"data": b'{"type": "challenge_solve", "payload": {"user_id": "7", "challenge_id": 1}}'},
        "Expected `int`, got `str`",
    ),
    "1 MB of rubbish": ({"data": RUBBISH}, "malformed"),
}


def test_invalid_entries_become_dead_letters_and_valid_ones_take_effect(site: Site) -> None:
    user = site.webapp.create_user()
    dojo = site.webapp.create_dojo(challenges=len(BAD))
    ids: dict[str, Any] = {}
    for challenge_id, (name, (fields, _)) in zip(
        site.webapp.challenge_ids(dojo), BAD.items(), strict=True
    ):
        ids[name] = site.cache.xadd(keys.STREAM, fields)
        site.webapp.solve(user, challenge_id)
        publish(site, "challenge_solve", user_id=user.id, challenge_id=challenge_id)
    eventually(
        lambda: (value_of(site, dojo) or {}).get("solves") == len(BAD), "all solves are counted"
    )
    eventually(lambda: site.cache.xlen(keys.STREAM) == 0, "the stream is empty")
    dead: Any = site.cache.xrange(keys.DEAD_LETTERS)
    letters = {letter[b"id"]: letter for _, letter in dead}
    assert set(letters) == set(ids.values())
    for name, (fields, reason) in BAD.items():
        letter = letters[ids[name]]
        assert reason in letter[b"error"].decode()
        assert b"InvalidEventError" in letter[b"traceback"]
        assert letter[b"attempts"] == b"1"
        assert letter[b"consumer"]
        assert letter[b"failed_at"]
        data = fields.get("data", b"")
        if len(data) <= 64 * 1024:
            assert letter[b"data"] == data
        else:
            assert letter[b"data"] == data[: 64 * 1024] + b" [cut by statsd]"
    expected = {entry.decode() for entry in ids.values()}

    def logged() -> set[str]:
        return {line["entry"] for line in site.daemon.lines("an event went to the dead letters")}

    eventually(lambda: logged() == expected, "each dead letter is logged")


def test_the_keys_of_a_deleted_dojo_are_removed(site: Site) -> None:
    dojo = site.webapp.create_dojo()
    publish(site, "dojo_stats_update", dojo_id=dojo.dojo_id)
    eventually(lambda: value_of(site, dojo), "the dojo is in the cache")
    site.webapp.delete([dojo])
    publish(site, "dojo_stats_update", dojo_id=dojo.dojo_id)
    key = keys.dojo_stats(dojo.reference_id)
    eventually(lambda: not site.cache.exists(key, keys.updated(key)), "its keys are removed")


def test_unknown_ids_are_handled_as_deleted(site: Site) -> None:
    dojo = site.webapp.create_dojo()
    publish(site, "dojo_stats_update", dojo_id=12345)
    publish(site, "challenge_solve", user_id=2**31 - 1, challenge_id=2**31 - 1)
    publish(site, "user_update", user_id=2**31 - 1)
    publish(site, "dojo_stats_update", dojo_id=dojo.dojo_id)
    eventually(lambda: value_of(site, dojo), "the dojo is in the cache")
    eventually(lambda: site.cache.xlen(keys.STREAM) == 0, "the stream is empty")
    assert site.cache.xlen(keys.DEAD_LETTERS) == 0
    found: Any = site.cache.keys("stats:dojo:*")
    names = {name for name in found if not name.endswith(b":updated")}
    assert names == {keys.dojo_stats(dojo.reference_id).encode()}


def test_a_renamed_dojo_leaves_no_key_behind(site: Site) -> None:
    dojo = site.webapp.create_dojo(official=True)
    publish(site, "dojo_stats_update", dojo_id=dojo.dojo_id)
    eventually(lambda: value_of(site, dojo), "the dojo is in the cache")
    old = keys.dojo_stats(dojo.reference_id)
    with site.webapp.sessions.begin() as session:
        dojo = session.merge(dojo)
        dojo.id = "another-name"
    publish(site, "dojo_stats_update", dojo_id=dojo.dojo_id)
    eventually(lambda: value_of(site, dojo), "the dojo is under its new name")
    assert not site.cache.exists(old, keys.updated(old))


def test_a_solve_published_before_its_commit_is_counted(site: Site) -> None:
    user, dojo = site.webapp.create_user(), site.webapp.create_dojo()
    [challenge_id, *_] = site.webapp.challenge_ids(dojo)
    publish(site, "challenge_solve", user_id=user.id, challenge_id=challenge_id)
    delayed = keys.DELAYED
    eventually(
        lambda: site.cache.exists(delayed), "the event was handled, and a delayed job is pending"
    )
    eventually(lambda: value_of(site, dojo), "the first job is completed")
    assert value_of(site, dojo)["solves"] == 0
    site.webapp.solve(user, challenge_id)
    eventually(lambda: value_of(site, dojo)["solves"] == 1, "the solve is counted")
    eventually(lambda: not site.cache.exists(delayed), "the delayed job was enqueued")


def test_an_event_that_meets_a_lock_waits_and_takes_effect(site: Site) -> None:
    """A statement timeout is transient: the event does not become a dead letter."""
    user, dojo = site.webapp.create_user(), site.webapp.create_dojo()
    [challenge_id, *_] = site.webapp.challenge_ids(dojo)
    publish(site, "dojo_stats_update", dojo_id=dojo.dojo_id)
    eventually(lambda: value_of(site, dojo), "the dojo is in the cache")
    site.webapp.solve(user, challenge_id)
    with site.webapp.engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE submissions IN ACCESS EXCLUSIVE MODE"))
        publish(site, "challenge_solve", user_id=user.id, challenge_id=challenge_id)
        eventually(lambda: site.daemon.lines("lost a server"), "a statement has timed out")
    eventually(lambda: value_of(site, dojo)["solves"] == 1, "the solve is counted")
    assert site.cache.xlen(keys.DEAD_LETTERS) == 0
