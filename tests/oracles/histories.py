"""The base of random histories of an application: solves are added and deleted."""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from statsd import schema
from tests.support.webapp import Challenge, Submission, User, WebApp, solve_of


class History:
    """An application, and random changes of it."""

    def __init__(self, webapp: WebApp, chance: random.Random, ages: Sequence[timedelta]) -> None:
        """`ages` are the possible ages of a new solve."""
        self.webapp = webapp
        self.chance = chance
        self._ages = ages

    def pick(self, session: Any, table: type[Any]) -> Any:
        """Return a random row of a table; None if the table is empty."""
        rows = session.scalars(sa.select(table)).all()
        return self.chance.choice(rows) if rows else None

    def solve(self) -> None:
        with self.webapp.sessions.begin() as session:
            user, challenge = self.pick(session, User), self.pick(session, Challenge)
            if user is None:
                return
            solve = solve_of(user, challenge.id, self.chance.choice(self._ages))
            existing = sa.select(schema.submissions.c.id).where(
                schema.submissions.c.user_id == user.id,
                schema.submissions.c.challenge_id == challenge.id,
            )
            if session.scalar(existing) is None:
                session.add(solve)

    def unsolve(self) -> None:
        with self.webapp.sessions.begin() as session:
            if solve := self.pick(session, Submission):
                session.delete(solve)
