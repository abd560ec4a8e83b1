"""The tables this package reads: the columns of the contract, section 3, and no others.

They are plain Core tables, so that the daemon (SQLAlchemy 2.x) and a web application (1.4 or 2.x)
build the same statements from them. The sample data and the tests create the tables; the daemon
never does.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

metadata = sa.MetaData()

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(128)),
    sa.Column("email", sa.String(128)),
    sa.Column("website", sa.String(128)),
    sa.Column("hidden", sa.Boolean, server_default=sa.false()),
    sa.Column("type", sa.String(80), server_default="user"),
)

challenges = sa.Table("challenges", metadata, sa.Column("id", sa.Integer, primary_key=True))

submissions = sa.Table(
    "submissions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("challenge_id", sa.ForeignKey("challenges.id", ondelete="CASCADE")),
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE")),
    sa.Column("date", sa.DateTime),
    sa.Column("type", sa.String(32)),
)
# A constant, not a parameter: the index below covers only these rows, so that the kept plan of a
# statement with a parameter could not use it.
CORRECT: "sa.ColumnElement[str]" = sa.literal_column("'correct'", sa.String)
sa.Index(
    "submissions_solves",
    submissions.c.challenge_id,
    submissions.c.user_id,
    unique=True,
    postgresql_where=sa.and_(
        submissions.c.type == CORRECT,
        submissions.c.user_id.is_not(None),
    ),
)

awards = sa.Table(
    "awards",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE")),
    sa.Column("type", sa.String(80)),
    sa.Column("name", sa.String(80)),
    sa.Column("description", sa.Text),
    sa.Column("date", sa.DateTime),
    sa.Column("category", sa.String(80)),
    sa.Column("icon", sa.Text),
)

dojos = sa.Table(
    "dojos",
    metadata,
    sa.Column("dojo_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", sa.String(32)),
    sa.Column("name", sa.String(128)),
    sa.Column("official", sa.Boolean),
    sa.Column("password", sa.String(128)),
    sa.Column("data", JSONB),
)

dojo_modules = sa.Table(
    "dojo_modules",
    metadata,
    sa.Column("dojo_id", sa.ForeignKey("dojos.dojo_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("module_index", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", sa.String(32)),
    sa.Column("name", sa.String(128)),
)

dojo_challenges = sa.Table(
    "dojo_challenges",
    metadata,
    sa.Column("dojo_id", sa.ForeignKey("dojos.dojo_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("module_index", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("challenge_index", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("challenge_id", sa.ForeignKey("challenges.id", ondelete="CASCADE"), index=True),
    sa.Column("id", sa.String(32)),
    sa.Column("name", sa.String(128)),
    sa.Column("required", sa.Boolean, server_default=sa.true()),
)

dojo_challenge_visibilities = sa.Table(
    "dojo_challenge_visibilities",
    metadata,
    sa.Column("dojo_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("module_index", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("challenge_index", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("start", sa.DateTime),
    sa.Column("stop", sa.DateTime),
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

dojo_users = sa.Table(
    "dojo_users",
    metadata,
    sa.Column("dojo_id", sa.ForeignKey("dojos.dojo_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("type", sa.String(80)),
)
