"""The load of a scenario: random changes in a web application."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from random import Random
from threading import Event as Flag, Thread
from time import time
from typing import NamedTuple

import sqlalchemy as sa

from statsd.client import Publisher
from statsd.events import Event
from tests.faults.form import pass_time
from tests.support.webapp import (
    Base,
    Dojo,
    DojoChallenge,
    Membership,
    Submission,
    User,
    Visibility,
    WebApp,
    now,
    solve_of,
)

DOJOS, CHALLENGES, USERS = 12, 6, 40
UNREACHABLE = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.PendingRollbackError)

ACTIONS = {
    "solve": 60,
    "unsolve": 8,
    "hide": 4,
    "join": 6,
    "leave": 3,
    "shut": 6,
    "require": 3,
    "rename": 2,
    "swap": 2,
    "solve_and_join": 2,
    "roll_back": 4,
    "replace_dojo": 1,
    "replace_user": 1,
}


class Note(NamedTuple):
    """A committed transaction: the moment after its commit, in Unix seconds, and its events."""

    moment: float
    events: tuple[Event, ...]


class Recorder(Publisher):
    """A publisher that notes all events. It can publish them twice, or keep them for later.

    While `kept` is a list, events are appended to it and not published.
    """

    notes: list[Note]
    twice = False
    kept: list[Event] | None = None

    def publish(self, *events: Event) -> int:
        self.notes.append(Note(time(), events))
        if self.kept is not None:
            self.kept += events
            return 0
        return super().publish(*events, *(events if self.twice else ()))

    def release(self, chance: Random) -> int:
        """Publish the kept events in random order; return their number."""
        kept, self.kept = self.kept or [], None
        chance.shuffle(kept)
        for event in kept:
            super().publish(event)
        return len(kept)


class Load:
    """Dojos of all kinds, users, and random changes; each change is one transaction."""

    def __init__(self, webapp: WebApp, chance: Random) -> None:
        self.webapp = webapp
        self.chance = chance
        self.refused = 0
        """Changes that failed because PostgreSQL was unavailable."""
        self.unanswered = 0
        """Refused changes whose COMMIT was sent. They may be committed, without an event."""
        self.users = [webapp.create_user() for _ in range(USERS)]
        self.dojos = [webapp.create_dojo(CHALLENGES, **_kind(i)) for i in range(DOJOS)]
        self.challenges = {dojo.dojo_id: webapp.challenge_ids(dojo) for dojo in self.dojos}

    def change(self, **weights: int) -> None:
        """Make one random change; `weights` replace those of `ACTIONS`."""
        chances = ACTIONS | weights
        [action] = self.chance.choices(list(chances), list(chances.values()))
        dojo, user = self.chance.choice(self.dojos), self.chance.choice(self.users)
        try:
            getattr(self, f"_{action}")(dojo, user)
        except UNREACHABLE as error:
            self.unanswered += _was_committing(error)
            self.refused += 1
            pass_time(0.02)

    @contextmanager
    def running(self, **weights: int) -> Iterator[None]:
        """Make one change after the other while the block runs; errors are raised at its end."""
        stop = Flag()
        errors: list[Exception] = []

        def work() -> None:
            try:
                while not stop.is_set():
                    self.change(**weights)
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)

        thread = Thread(target=work, name="load")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        for error in errors:
            raise error

    def _add(self, *rows: Base) -> None:
        with suppress(sa.exc.IntegrityError):  # the row exists
            self.webapp.add(*rows)

    def _a_solve(self, dojo: Dojo, user: User) -> Submission:
        return solve_of(user, self.chance.choice(self.challenges[dojo.dojo_id]))

    def _solve(self, dojo: Dojo, user: User) -> None:
        self._add(self._a_solve(dojo, user))

    def _unsolve(self, _dojo: Dojo, user: User) -> None:
        with self.webapp.sessions.begin() as session:
            found = session.scalars(sa.select(Submission).filter_by(user_id=user.id)).first()
            if found:
                session.delete(found)

    def _hide(self, _dojo: Dojo, user: User) -> None:
        with self.webapp.sessions.begin() as session:
            found = session.get_one(User, user.id)
            found.hidden = not found.hidden

    def _join(self, dojo: Dojo, user: User) -> None:
        with self.webapp.sessions.begin() as session:
            kind = self.chance.choice(["member", "member", "student", "admin"])
            session.merge(Membership(dojo_id=dojo.dojo_id, user_id=user.id, type=kind))

    def _leave(self, dojo: Dojo, user: User) -> None:
        with self.webapp.sessions.begin() as session:
            if found := session.get(Membership, (dojo.dojo_id, user.id)):
                session.delete(found)

    def _shut(self, dojo: Dojo, _user: User) -> None:
        place = {"module_index": 0, "challenge_index": self.chance.randrange(CHALLENGES)}
        bounds = [now() + timedelta(seconds=seconds) for seconds in (-5, 3600)]
        start, stop = self.chance.choice([(None, None), (bounds[0], None), (None, bounds[1])])
        with self.webapp.sessions.begin() as session:
            session.get_one(DojoChallenge, (dojo.dojo_id, *place.values()))
            session.merge(Visibility(dojo_id=dojo.dojo_id, start=start, stop=stop, **place))

    def _require(self, dojo: Dojo, _user: User) -> None:
        with self.webapp.sessions.begin() as session:
            index = self.chance.randrange(CHALLENGES)
            found = session.get_one(DojoChallenge, (dojo.dojo_id, 0, index))
            found.required = not found.required

    def _rename(self, dojo: Dojo, _user: User) -> None:
        with self.webapp.sessions.begin() as session:
            found = session.get_one(Dojo, dojo.dojo_id)
            found.id = f"dojo-{self.chance.randrange(1_000_000_000)}"

    def _swap(self, _dojo: Dojo, _user: User) -> None:
        """Exchange the ids of two official dojos, and with the ids their cache keys."""
        one, other = self.chance.sample([dojo for dojo in self.dojos if dojo.official], 2)
        with self.webapp.sessions.begin() as session:
            found = session.get_one(Dojo, one.dojo_id), session.get_one(Dojo, other.dojo_id)
            found[0].id, found[1].id = found[1].id, found[0].id

    def _solve_and_join(self, dojo: Dojo, user: User) -> None:
        self._add(
            self._a_solve(dojo, user),
            Membership(dojo_id=dojo.dojo_id, user_id=user.id, type="student"),
        )

    def _roll_back(self, dojo: Dojo, user: User) -> None:
        with self.webapp.sessions() as session:
            session.add(self._a_solve(dojo, user))
            with suppress(sa.exc.IntegrityError):
                session.flush()
            session.rollback()

    def _replace_dojo(self, dojo: Dojo, _user: User) -> None:
        kind = {"official": True} if dojo.official else {}
        another = self.webapp.create_dojo(CHALLENGES, **kind)
        self.challenges[another.dojo_id] = self.webapp.challenge_ids(another)
        # Before the commit: if its answer is lost, it is not known whether the dojo is gone.
        self.dojos[self.dojos.index(dojo)] = another
        self.webapp.delete([dojo])

    def _replace_user(self, _dojo: Dojo, user: User) -> None:
        self.users[self.users.index(user)] = self.webapp.create_user()
        self.webapp.delete([user])


def _was_committing(error: Exception) -> bool:
    """Return whether a connection broke in a COMMIT: then the error names no statement."""
    broke = isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated
    return broke and getattr(error, "statement", None) is None


def _kind(number: int) -> dict[str, object]:
    """Return the columns of a dojo: every fourth is official, every third one private."""
    if number % 4 == 0:
        return {"official": True}
    return {"data": {}} if number % 3 == 0 else {}
