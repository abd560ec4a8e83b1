"""A small web application like CTFd, with the models and sessions that statsd listens to."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import orjson
import redis
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from statsd import keys, schema
from tests.support.processes import eventually


class Base(DeclarativeBase):
    if TYPE_CHECKING:
        # The tables define the columns.
        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...


class User(Base):
    __table__ = schema.users


class Challenge(Base):
    __table__ = schema.challenges


class Submission(Base):
    __table__ = schema.submissions


class Dojo(Base):
    __table__ = schema.dojos

    @property
    def reference_id(self) -> str:
        return keys.reference_id(self.dojo_id, self.id, official=bool(self.official))


class Module(Base):
    __table__ = schema.dojo_modules


class DojoChallenge(Base):
    __table__ = schema.dojo_challenges


class Visibility(Base):
    __table__ = schema.dojo_challenge_visibilities


class Membership(Base):
    __table__ = schema.dojo_users


class Award(Base):
    __table__ = schema.awards


_numbers = count(1)


def now() -> datetime:
    """Return the time in naive UTC, as the tables have it."""
    return datetime.now(UTC).replace(tzinfo=None)


class WebApp:
    """The application's sessions, and the changes that its pages make."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.sessions = sessionmaker(engine, expire_on_commit=False)

    def add(self, *rows: Base) -> None:
        with self.sessions.begin() as session:
            session.add_all(rows)

    def create_user(self, **columns: Any) -> User:
        """Commit a user; `columns` replace the default values."""
        name = f"hacker {next(_numbers)}"
        user = User(name=name, email=f"{name.replace(' ', '.')}@example.com", hidden=False)
        for column, value in columns.items():
            setattr(user, column, value)
        self.add(user)
        return user

    def create_dojo(self, challenges: int = 3, **columns: Any) -> Dojo:
        """Make a public dojo with one module, in one transaction."""
        number = next(_numbers)
        values = {
            "dojo_id": -(now().microsecond * 1000 + number),
            "id": f"dojo-{number}",
            "name": f"Dojo {number}",
            "official": False,
            "data": {"type": "public"},
        }
        dojo = Dojo(**(values | columns))
        with self.sessions.begin() as session:
            session.add(dojo)
            session.flush()
            session.add(Module(dojo_id=dojo.dojo_id, module_index=0, id="m", name="Module"))
            for index in range(challenges):
                self._add_challenge(session, dojo, index)
        return dojo

    def _add_challenge(self, session: Session, dojo: Dojo, index: int) -> None:
        challenge = Challenge()
        session.add(challenge)
        session.flush()
        session.add(
            DojoChallenge(
                dojo_id=dojo.dojo_id,
                module_index=0,
                challenge_index=index,
                challenge_id=challenge.id,
                id=f"level-{index}",
                name=f"Level {index}",
                required=True,
            )
        )

    def challenge_ids(self, dojo: Dojo) -> list[int]:
        """Return the ids of a dojo's challenges, in their order."""
        row = schema.dojo_challenges.c
        statement = sa.select(row.challenge_id).where(row.dojo_id == dojo.dojo_id)
        with self.sessions() as session:
            return list(session.scalars(statement.order_by(row.challenge_index)))

    def solve(self, user: User, challenge_id: int, ago: timedelta = timedelta(0)) -> None:
        """Commit a solve, dated `ago` before now."""
        self.add(solve_of(user, challenge_id, ago))

    def delete(self, rows: Iterable[Base]) -> None:
        with self.sessions.begin() as session:
            for row in rows:
                session.delete(session.merge(row))


def solve_of(user: User, challenge_id: int, ago: timedelta = timedelta(0)) -> Submission:
    return Submission(user_id=user.id, challenge_id=challenge_id, date=now() - ago, type="correct")


def webapp_of(database: str) -> WebApp:
    return WebApp(sa.create_engine(sa.make_url(database).set(drivername="postgresql+psycopg2")))


def publish(cache: "redis.Redis", dojo: Dojo) -> None:
    """Publish that a dojo's statistics are stale."""
    data = {"type": "dojo_stats_update", "payload": {"dojo_id": dojo.dojo_id}}
    cache.xadd(keys.STREAM, {"data": orjson.dumps(data)})


def solves_of(cache: "redis.Redis", dojo: Dojo) -> Callable[[], int | None]:
    """Return a function that reads a dojo's number of solves from the cache; None if missing."""

    def solves() -> int | None:
        raw = cache.get(keys.dojo_stats(dojo.reference_id))
        return orjson.loads(raw)["solves"] if raw else None

    return solves


def cached(cache: "redis.Redis", dojo: Dojo) -> None:
    """Wait until a dojo's statistics are in the cache."""
    eventually(lambda: solves_of(cache, dojo)() is not None, "the dojo is in the cache")
