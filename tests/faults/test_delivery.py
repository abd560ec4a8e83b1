"""Events that come twice, with a delay, in random order, before their commits, or never."""

from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from statsd import keys
from statsd.calculators.dojo_stats import DojoStats
from statsd.events import ChallengeSolve, DojoStatsUpdate, Event, encode
from tests.faults.form import pass_time, sized
from tests.faults.harness import BLOCKED, Site
from tests.support.processes import eventually
from tests.support.webapp import Dojo, Membership, Submission, solve_of

pytestmark = pytest.mark.timeout(900)

LOAD = sized(2.0, 20.0)  # seconds
MANY_CHANGES = {"unsolve": 30, "hide": 20, "join": 30, "leave": 15, "shut": 25, "replace_dojo": 4}
"""Weights of a load that changes memberships, users and visibilities as often as it solves."""


def stats(site: Site, dojo: Dojo) -> dict[str, object]:
    raw = site.cache.get(keys.dojo_stats(dojo.reference_id))
    return dict(orjson.loads(raw)) if raw else {}


def counted(site: Site, dojo: Dojo, solves: int) -> bool:
    return stats(site, dojo).get("solves") == solves


def unread(site: Site) -> int:
    return site.cache.xlen(keys.STREAM)


def test_every_event_comes_twice(site: Site) -> None:
    """Each event is published twice at once. Events of the first half come again at the end."""
    site.publisher.twice = True
    with site.load.running():
        pass_time(LOAD / 2)
    copies: Any = site.cache.xrange(keys.STREAM)
    site.start().started()
    with site.load.running():
        pass_time(LOAD / 2)
    site.faults["duplicates"] = site.publisher.published // 2
    eventually(lambda: unread(site) == 0, "all entries are read")
    for _, fields in copies:
        site.cache.xadd(keys.STREAM, fields)
    site.faults["duplicates"] += len(copies)
    site.finish()


def test_events_come_shuffled(site: Site) -> None:
    """The same rows change again between a change and its event.

    In the first part the events come after all changes, in the second part during other changes.
    The audit is off, so that only events make values right.
    """
    site.start(STATSD_AUDIT_INTERVAL="0").started()
    site.publisher.kept = []
    with site.load.running(**MANY_CHANGES):
        pass_time(LOAD / 2)
    site.faults["events shuffled"] = site.publisher.release(site.chance)
    site.complete()
    site.publisher.kept = []
    with site.load.running(**MANY_CHANGES):
        pass_time(LOAD / 2)
    with site.load.running(**MANY_CHANGES):
        early, site.publisher.kept = site.publisher.kept, None
        site.chance.shuffle(early)
        for event in early:
            site.cache.xadd(keys.STREAM, {"data": encode(event)})
            pass_time(LOAD / len(early))
    site.faults["events shuffled"] += len(early)
    site.finish()


def test_events_come_before_their_commits(site: Site) -> None:
    """All events are handled before their transactions are committed."""
    site.start().started()
    site.complete()
    for _ in range(sized(3, 10)):
        with site.silent.begin() as session:
            events: list[Event] = []
            for dojo in site.load.dojos:
                challenge = site.chance.choice(site.load.challenges[dojo.dojo_id])
                user = site.webapp.create_user()
                session.add(solve_of(user, challenge))
                session.add(Membership(dojo_id=dojo.dojo_id, user_id=user.id, type="member"))
                events.append(ChallengeSolve(user.id, challenge))
                events.append(DojoStatsUpdate(dojo.dojo_id))
            session.flush()
            site.faults["events too soon"] += site.publisher.publish(*events)
            eventually(lambda: unread(site) == 0, "all events are handled")
    site.finish()


def test_a_solve_whose_event_never_comes(site: Site) -> None:
    site.start().started()
    site.probe()
    site.complete()
    user = site.webapp.create_user()
    with site.silent.begin() as session:
        session.add(solve_of(user, site.webapp.challenge_ids(site.quiet)[0]))
    site.losses += 1
    site.finish(within=90.0)
    assert counted(site, site.quiet, 2)


def test_a_membership_whose_event_never_comes(site: Site) -> None:
    """Only the audit can find it: a membership is no submission."""
    private = site.webapp.create_dojo(data={})
    user = site.webapp.create_user()
    site.webapp.solve(user, site.webapp.challenge_ids(private)[0])
    site.start().started()
    site.complete()
    assert counted(site, private, 0)
    with site.silent.begin() as session:
        session.add(Membership(dojo_id=private.dojo_id, user_id=user.id, type="member"))
    site.losses += 1
    site.finish(within=180.0)
    assert counted(site, private, 1)


def test_a_rolled_back_transaction_publishes_nothing(site: Site) -> None:
    """Neither do its flushes and savepoints."""
    before = site.publisher.published
    entries = unread(site)
    for _ in range(sized(50, 500)):
        site.load.change(**dict.fromkeys(MANY_CHANGES, 0), solve=0, solve_and_join=0)
    rolled_back = site.publisher.published - before
    user = site.webapp.create_user()
    with site.webapp.sessions() as session:
        with session.begin_nested():
            session.add(solve_of(user, 1))
        session.rollback()
    assert site.publisher.published - before == rolled_back == unread(site) - entries
    site.start().started()
    site.finish()


def test_a_deleted_solve_decreases_the_numbers(site: Site) -> None:
    site.start().started()
    for _ in range(3):
        site.probe()
    before = stats(site, site.quiet)
    with site.webapp.sessions.begin() as session:
        challenge = site.webapp.challenge_ids(site.quiet)[0]
        solves = session.scalars(sa.select(Submission).filter_by(challenge_id=challenge)).all()
        session.delete(solves[0])
    eventually(lambda: counted(site, site.quiet, 2), "the solve is gone from the value")
    assert (before["solves"], before["users"]) == (3, 3)
    assert stats(site, site.quiet)["users"] == 2
    site.finish()


def test_a_solve_committed_while_its_dojo_is_computed_counts_once(site: Site) -> None:
    """The calculation has its token and snapshot, and waits for a table when the solve commits.

    In even rounds the job is enqueued again during the calculation. In odd rounds all events come
    after the calculation.
    """
    daemon = site.start().started()
    rounds = sized(6, 60)
    stale = DojoStatsUpdate(site.quiet.dojo_id)
    name = DojoStats(site.quiet.dojo_id).name
    for number in range(1, rounds + 1):
        user = site.webapp.create_user()
        site.complete()  # a calculation of the round before must not wait for the table
        with site.webapp.engine.begin() as connection:
            connection.execute(sa.text("LOCK TABLE dojo_users IN ACCESS EXCLUSIVE MODE"))
            site.publisher.publish(stale)
            eventually(
                lambda: site.cache.hexists(keys.LEASES, name), "the calculation has its token"
            )
            eventually(lambda: site.execute(BLOCKED), "the calculation waits")
            site.publisher.kept = [] if number % 2 else None
            site.webapp.solve(user, site.webapp.challenge_ids(site.quiet)[0])
            if number % 2 == 0:  # the solve enqueues only user entries, which wait too
                site.publisher.publish(stale)
            eventually(lambda: unread(site) == 0, "all events are handled")
        if number % 2:
            site.publisher.release(site.chance)
        eventually(lambda n=number: counted(site, site.quiet, n), "the solve is counted")  # type: ignore[misc]
        site.faults["solves during a calculation"] += 1
    site.finish()
    requeued = sum(line.get("requeued", 0) for line in daemon.lines("jobs completed"))
    assert requeued >= rounds // 2
    assert counted(site, site.quiet, rounds)
