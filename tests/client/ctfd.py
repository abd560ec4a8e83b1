# mypy: disable-error-code="misc, assignment, dict-item"
# Classes in the style of 1.4 have no types that mypy could check.
"""The mapped classes of a web application like CTFd with the dojo plugin, and some rows.

Written the way that SQLAlchemy 1.4 and 2.x both take. Joined and single-table inheritance,
attributes named otherwise than their columns, and columns that are no business of ours are
there on purpose.
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import column_property, declarative_base, deferred, relationship

from statsd.events import DojoStatsUpdate, Event, ModuleId, ScoreboardUpdate, ScoresUpdate

Base: Any = declarative_base()

LONG_AGO = datetime(2024, 1, 2, 3, 4, 5)  # noqa: DTZ001 - as the database has them


def cascade(column: str) -> sa.ForeignKey:
    return sa.ForeignKey(column, ondelete="CASCADE")


class Users(Base):
    __tablename__ = "users"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String(128))
    email = sa.Column(sa.String(128))
    site = sa.Column("website", sa.String(128))
    hidden = sa.Column(sa.Boolean, default=False)
    type = sa.Column(sa.String(80))
    language = sa.Column(sa.String(32))
    __mapper_args__ = {"polymorphic_identity": "user", "polymorphic_on": "type"}  # noqa: RUF012 - SQLAlchemy's


class Admins(Users):
    __mapper_args__ = {"polymorphic_identity": "admin"}  # noqa: RUF012 - SQLAlchemy's


class Challenges(Base):
    __tablename__ = "challenges"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String(80))


class Submissions(Base):
    __tablename__ = "submissions"
    id = sa.Column(sa.Integer, primary_key=True)
    challenge_id = sa.Column(sa.Integer, cascade("challenges.id"))
    user_id = sa.Column(sa.Integer, cascade("users.id"))
    provided = sa.Column(sa.Text)
    type = sa.Column(sa.String(32))
    date = sa.Column(sa.DateTime, default=lambda: LONG_AGO)
    user = relationship("Users", foreign_keys="Submissions.user_id")
    challenge = relationship("Challenges", foreign_keys="Submissions.challenge_id")
    __mapper_args__ = {"polymorphic_on": "type"}  # noqa: RUF012 - SQLAlchemy's


class Solves(Submissions):
    __tablename__ = "solves"
    id = sa.Column(sa.Integer, cascade("submissions.id"), primary_key=True)
    challenge_id = column_property(
        sa.Column(sa.Integer, cascade("challenges.id")), Submissions.challenge_id
    )
    user_id = column_property(sa.Column(sa.Integer, cascade("users.id")), Submissions.user_id)
    __mapper_args__ = {"polymorphic_identity": "correct"}  # noqa: RUF012 - SQLAlchemy's


class Fails(Submissions):
    __mapper_args__ = {"polymorphic_identity": "incorrect"}  # noqa: RUF012 - SQLAlchemy's


class Awards(Base):
    __tablename__ = "awards"
    id = sa.Column(sa.Integer, primary_key=True)
    user_id = sa.Column(sa.Integer, cascade("users.id"))
    type = sa.Column(sa.String(80), default="standard")
    name = sa.Column(sa.String(80))
    description = sa.Column(sa.Text)
    date = sa.Column(sa.DateTime, default=lambda: LONG_AGO)
    value = sa.Column(sa.Integer)
    category = sa.Column(sa.String(80))
    icon = sa.Column(sa.Text)
    __mapper_args__ = {"polymorphic_identity": "standard", "polymorphic_on": "type"}  # noqa: RUF012 - SQLAlchemy's


class Belts(Awards):
    __mapper_args__ = {"polymorphic_identity": "belt"}  # noqa: RUF012 - SQLAlchemy's


class Emojis(Awards):
    __mapper_args__ = {"polymorphic_identity": "emoji"}  # noqa: RUF012 - SQLAlchemy's


class Dojos(Base):
    __tablename__ = "dojos"
    dojo_id = sa.Column(sa.Integer, primary_key=True, autoincrement=False)
    slug = sa.Column("id", sa.String(32))
    name = sa.Column(sa.String(128))
    description = deferred(sa.Column(sa.Text))
    official = sa.Column(sa.Boolean)
    password = sa.Column(sa.String(128))
    data = sa.Column(JSONB)
    modules = relationship(
        "DojoModules",
        order_by="DojoModules.module_index",
        cascade="all, delete-orphan",
        back_populates="dojo",
    )


class DojoModules(Base):
    __tablename__ = "dojo_modules"
    dojo_id = sa.Column(sa.Integer, cascade("dojos.dojo_id"), primary_key=True)
    module_index = sa.Column(sa.Integer, primary_key=True, autoincrement=False)
    id = sa.Column(sa.String(32))
    name = sa.Column(sa.String(128))
    description = sa.Column(sa.Text)
    dojo = relationship("Dojos", back_populates="modules")


class DojoChallenges(Base):
    __tablename__ = "dojo_challenges"
    dojo_id = sa.Column(sa.Integer, cascade("dojos.dojo_id"), primary_key=True)
    module_index = sa.Column(sa.Integer, primary_key=True, autoincrement=False)
    challenge_index = sa.Column(sa.Integer, primary_key=True, autoincrement=False)
    challenge_id = sa.Column(sa.Integer, cascade("challenges.id"), index=True)
    id = sa.Column(sa.String(32))
    name = sa.Column(sa.String(128))
    required = sa.Column(sa.Boolean, default=True)
    visibility = relationship(
        "DojoChallengeVisibilities", uselist=False, cascade="all, delete-orphan"
    )


class DojoChallengeVisibilities(Base):
    __tablename__ = "dojo_challenge_visibilities"
    dojo_id = sa.Column(sa.Integer, primary_key=True, autoincrement=False)
    module_index = sa.Column(sa.Integer, primary_key=True, autoincrement=False)
    challenge_index = sa.Column(sa.Integer, primary_key=True, autoincrement=False)
    start = sa.Column(sa.DateTime)
    stop = sa.Column(sa.DateTime)
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["dojo_id", "module_index", "challenge_index"],
            [
                "dojo_challenges.dojo_id",
                "dojo_challenges.module_index",
                "dojo_challenges.challenge_index",
            ],
            ondelete="CASCADE",
        ),
    )


class DojoUsers(Base):
    __tablename__ = "dojo_users"
    dojo_id = sa.Column(sa.Integer, cascade("dojos.dojo_id"), primary_key=True)
    user_id = sa.Column(sa.Integer, cascade("users.id"), primary_key=True)
    type = sa.Column(sa.String(80))
    token = sa.Column(sa.String(32))


class Pages(Base):
    """No business of ours."""

    __tablename__ = "pages"
    id = sa.Column(sa.Integer, primary_key=True)
    title = sa.Column(sa.String(80))
    __table_args__ = (sa.UniqueConstraint("title", deferrable=True, initially="DEFERRED"),)


DOJO, OTHER_DOJO = -5, 7
SOLVE, FAIL = 100, 101
BELT, EMOJI = 1, 2

ROWS: list[tuple[str, list[dict[str, Any]]]] = [
    (
        "users",
        [{"id": n, "name": f"user {n}", "hidden": False, "type": "user"} for n in (1, 2, 3)],
    ),
    ("challenges", [{"id": 1}, {"id": 2}, {"id": 3}]),
    (
        "submissions",
        [
            {"id": SOLVE, "user_id": 2, "challenge_id": 2, "type": "correct", "date": LONG_AGO},
            {"id": FAIL, "user_id": 2, "challenge_id": 1, "type": "incorrect", "date": LONG_AGO},
        ],
    ),
    ("solves", [{"id": SOLVE, "user_id": 2, "challenge_id": 2}]),
    (
        "awards",
        [
            {"id": BELT, "user_id": 2, "type": "belt", "name": "orange"},
            {"id": EMOJI, "user_id": 2, "type": "emoji", "name": "CURRENT"},
        ],
    ),
    (
        "dojos",
        [
            {"dojo_id": DOJO, "id": "intro", "name": "Intro", "data": {"type": "public"}},
            {"dojo_id": OTHER_DOJO, "id": "other", "name": "Other", "data": {}},
        ],
    ),
    (
        "dojo_modules",
        [{"dojo_id": d, "module_index": m} for d, m in ((DOJO, 0), (DOJO, 1), (OTHER_DOJO, 0))],
    ),
    (
        "dojo_challenges",
        [
            {"dojo_id": DOJO, "module_index": m, "challenge_index": i, "challenge_id": c}
            for m, i, c in ((0, 0, 1), (0, 1, 2), (1, 0, 1))
        ],
    ),
    (
        "dojo_challenge_visibilities",
        [{"dojo_id": DOJO, "module_index": 0, "challenge_index": 0, "start": LONG_AGO}],
    ),
    ("dojo_users", [{"dojo_id": DOJO, "user_id": 2, "type": "member"}]),
    ("pages", [{"id": 1, "title": "index"}]),
]


def create(engine: Any) -> None:
    """Create the tables; new rows get ids far from those of ROWS."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for name in ("users", "challenges", "submissions", "awards", "pages"):
            connection.execute(sa.text(f"ALTER SEQUENCE {name}_id_seq RESTART 1000"))


def start_over(engine: Any) -> None:
    """Leave the rows above in the database, and no others."""
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
        for name, rows in ROWS:
            connection.execute(Base.metadata.tables[name].insert(), rows)


def changed(dojo_id: int, *modules: int) -> set[Event]:
    """The events of a changed dojo, by the contract: those of the dojo and of its modules."""
    return {
        DojoStatsUpdate(dojo_id),
        ScoreboardUpdate("dojo", dojo_id),
        ScoresUpdate(dojo_id),
        *(ScoreboardUpdate("module", ModuleId(dojo_id, index)) for index in modules),
    }
