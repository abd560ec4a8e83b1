"""The statistic of the guide, kept up by a daemon; `test_guide.py` runs this in its copy."""

from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path

import orjson
import pytest
import redis

from statsd import keys
from statsd.client import Publisher, Reader, listen
from statsd.consistency.missed_solves import MissedSolves
from statsd.dev import embedded
from statsd.job import Job
from tests.support.processes import daemon, eventually
from tests.support.webapp import Membership, User, WebApp

UPKEEP = {keys.job(MissedSolves().name).encode()}


class Site:
    """An application with a dojo and a user, a daemon, and the value of the dojo."""

    def __init__(self, webapp: WebApp, client: "redis.Redis", reader: Reader) -> None:
        self.webapp, self.client, self.reader = webapp, client, reader
        self.user = webapp.create_user()
        self.dojo = webapp.create_dojo()
        members = import_module("statsd.calculators.dojo_members")
        self.job: Job = members.DojoMembers(self.dojo.dojo_id)
        self.key = f"stats:members:dojo:{self.dojo.dojo_id}"

    def expect(self, members: int, active: int, after: str) -> None:
        """Wait until the daemon has written these numbers, and then until nothing is pending."""
        value = {"members": members, "active": active}
        eventually(lambda: self._cached() == value, f"{value} after {after}")
        eventually(lambda: not self._pending(), f"all jobs are completed after {after}")
        assert self._cached() == value
        assert self.reader.get(self.job) == value

    def _cached(self) -> object:
        return orjson.loads(self.client.get(self.key) or b"null")

    def _pending(self) -> bool:
        jobs = set(self.client.keys(keys.job("*"))) - UPKEEP
        return bool(jobs or self.client.xlen(keys.STREAM) or self.client.zcard(keys.DELAYED))


@pytest.fixture
def site(
    database: str,
    redis_server: embedded.Redis,
    cache: "redis.Redis",
    webapp: WebApp,
    tmp_path: Path,
) -> Iterator[Site]:
    with closing(Reader.from_url(webapp.engine, redis_server.url)) as reader:
        site = Site(webapp, cache, reader)
        variables = {
            "DATABASE_URL": database,
            "REDIS_URL": redis_server.url,
            "STATSD_AUDIT_INTERVAL": "0",  # so that no drift is corrected
        }
        publisher = Publisher.from_url(redis_server.url)
        with daemon(tmp_path / "log", **variables) as process, closing(publisher):
            process.started()
            forget = listen(webapp.sessions, publisher)
            yield site
            forget()


def test_the_value_follows_every_change_of_the_data_it_depends_on(site: Site) -> None:
    webapp, dojo_id = site.webapp, site.dojo.dojo_id
    site.expect(0, 0, "the cold start")
    webapp.add(Membership(dojo_id=dojo_id, user_id=site.user.id, type="student"))
    site.expect(1, 0, "a membership")
    webapp.solve(site.user, webapp.challenge_ids(site.dojo)[0])
    site.expect(1, 1, "a solve")
    _hide(webapp, site.user)
    site.expect(1, 0, "the user was hidden")
    webapp.delete([site.user])
    site.expect(0, 0, "the user was deleted")


def test_a_missing_value_is_computed_and_written_again(site: Site) -> None:
    site.expect(0, 0, "the cold start")
    site.client.delete(site.key, keys.updated(site.key))
    assert site.reader.get(site.job) == {"members": 0, "active": 0}
    site.expect(0, 0, "the key was lost")
    site.webapp.delete([site.dojo])
    eventually(lambda: not site.client.exists(site.key), "the key of a deleted dojo is deleted")
    assert site.reader.get(site.job) == {"members": 0, "active": 0}


def _hide(webapp: WebApp, user: User) -> None:
    with webapp.sessions.begin() as session:
        session.merge(user).hidden = True
