"""What random histories of an application have in common: solves come and go."""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from statsd import schema
from tests.support.webapp import Challenge, Submission, User, WebApp, solve_of


class History:
    """An application in which anything may happen, as chance has it."""

    def __init__(self, webapp: WebApp, chance: random.Random, ages: Sequence[timedelta]) -> None:
        """`ages` are how old a solve may be when it comes."""
        self.webapp = webapp
        self.chance = chance
        self._ages = ages

    def pick(self, session: Any, table: type[Any]) -> Any:
        """Return any row of a table; None where there is none."""
        rows = session.scalars(sa.select(table)).all()
        return self.chance.choice(rows) if rows else None

    def solve(self) -> None:
        with self.webapp.sessions.begin() as session:
            user, challenge = self.pick(session, User), self.pick(session, Challenge)
            if user is None:
                return
            solve = solve_of(user, challenge.id, self.chance.choice(self._ages))
            there = sa.select(schema.submissions.c.id).where(
                schema.submissions.c.user_id == user.id,
                schema.submissions.c.challenge_id == challenge.id,
            )
            if session.scalar(there) is None:
                session.add(solve)

    def unsolve(self) -> None:
        with self.webapp.sessions.begin() as session:
            if solve := self.pick(session, Submission):
                session.delete(solve)
