"""User entries: what one user has in one dojo. Everything about a dojo follows from them.

A user has an entry for each challenge row of the dojo (module_index, challenge_index) and solve of
its challenge. Flags say which rules it meets:

- `SCORED`: the row is required, and the dojo is open to all. Scores count it, whoever the user is.
- `VISIBLE`: everything in "counted" (docs/contract.md) but `required`. Challenge solves count it.
- `COUNTED`: a visible entry of a required row. Everything else counts it.

Entries with no flag are left out. There is one definition in SQL (`_entries`), read in three ways:
for pairs of a dojo and a user, for whole dojos, and for a range of the users of a dojo.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, NamedTuple
from zlib import crc32

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from statsd.calculators import Cost, Input
from statsd.calculators.counted import (
    DOJO_IDS,
    among,
    integers,
    open_to_all,
    row_and_visibility,
    with_modules,
)
from statsd.calculators.crew_tags import tag_in
from statsd.definitions import NO_DATE, SCORE_UNIT
from statsd.job import Job, microseconds, register_kind
from statsd.schema import (
    CORRECT,
    dojo_challenge_visibilities as visibility,
    dojo_challenges as row,
    dojo_users as membership,
    submissions as solve,
    users as solver,
)

SCORED, VISIBLE, COUNTED = 1, 2, 4
COST = Cost(batch=1000)  # pairs of a dojo and a user
DEPENDS_ON = Input.SOLVES | Input.USERS

HEADER = struct.Struct("<qIII")
ENTRY = struct.Struct("<iiiiqB")
PLACE = struct.Struct("<iI")


class UserEntries(Job, frozen=True):
    """One user's entries in one dojo. The job has no cache keys of its own."""

    kind: ClassVar[str] = "user_entries"
    dojo_id: int
    user_id: int


register_kind(UserEntries)


class UserEntry(NamedTuple):
    """One entry of a user."""

    module_index: int
    challenge_index: int
    challenge_id: int
    solve_id: int
    date: int
    """Microseconds since 1970 (UTC); NO_DATE for none."""
    flags: int


def packed_entries(record: bytes) -> bytes:
    """Return the entries of a record. Raises struct.error where it is garbled."""
    *_, count = HEADER.unpack_from(record)
    return record[HEADER.size : HEADER.size + count * ENTRY.size]


def grouped(fields: Sequence[int]) -> list[UserEntry]:
    """Return the entries in a flat list of their fields, as scripts reply with."""
    size = len(UserEntry._fields)
    return [UserEntry(*fields[at : at + size]) for at in range(0, len(fields), size)]


def score(solves: int, last: int) -> int:
    """Return the score of an entry, by which boards are ordered, the greatest first.

    More solves come first, then the smaller id of the last solve. Ids are below 2^31, so up to four
    million solves the score is exact in the 53 bits of a sorted set's scores.
    """
    return solves * SCORE_UNIT + (SCORE_UNIT - 1 - last)


def solves_in(score: int) -> int:
    """Return the number of solves in a score."""
    return score // SCORE_UNIT


# --- persons


class Person(NamedTuple):
    """The name and e-mail address of a user, as boards show them."""

    name: str | None
    email: str | None

    @property
    def text(self) -> str:
        """JSON of both."""
        return orjson.dumps([self.name, self.email]).decode()

    @property
    def digest(self) -> int:
        """A digest of 32 bits, by which a dojo's state notices another name."""
        return crc32(orjson.dumps([self.name, self.email]))

    @property
    def is_tagged(self) -> bool:
        """Whether the name has the tag of a crew."""
        return tag_in(self.name) is not None


def person_in(text: bytes | str) -> Person:
    """Return the person in a JSON text."""
    name, email = orjson.loads(text)
    return Person(name, email)


# --- the statements


class _Rows:
    """The challenge rows of some dojos, and the expressions over their solves.

    The OFFSET keeps the rows apart: what is the same for all solves of a row is evaluated once.
    """

    def __init__(self, of: "sa.ColumnElement[bool]", outer: Any = None) -> None:
        """`of` selects the rows; it may have columns of `outer`."""
        chosen = (
            sa.select(
                row.c.dojo_id,
                row.c.module_index,
                row.c.challenge_index,
                row.c.challenge_id,
                row.c.required,
                visibility.c.start,
                visibility.c.stop,
                sa.func.coalesce(open_to_all(), sa.false()).label("is_open"),
            )
            .select_from(with_modules(row_and_visibility()))
            .where(of)
            .offset(sa.literal_column("0"))
        )
        self.table = chosen.subquery() if outer is None else chosen.correlate(outer).lateral()
        rows = self.table.c
        is_scored = sa.and_(rows.required, rows.is_open)
        is_visible = sa.and_(
            solver.c.id.is_not(None),
            solver.c.hidden.is_not(True),
            sa.func.coalesce(membership.c.type, "") != "admin",
            sa.or_(rows.is_open, membership.c.user_id.is_not(None)),
            sa.or_(rows.start.is_(None), solve.c.date >= rows.start),
            sa.or_(rows.stop.is_(None), solve.c.date <= rows.stop),
        )
        flags = sa.case((is_scored, SCORED), else_=0) + sa.case(
            (sa.and_(is_visible, rows.required), VISIBLE + COUNTED), (is_visible, VISIBLE), else_=0
        )
        self._has_flags = sa.or_(is_scored, is_visible)
        self.columns = (
            rows.module_index,
            rows.challenge_index,
            rows.challenge_id,
            solve.c.id.label("solve_id"),
            solve.c.date,
            sa.cast(flags, sa.SmallInteger).label("flags"),
        )
        """The columns of an entry: the fields of `UserEntry`."""

    def entries(self, *columns: Any, of: "sa.ColumnElement[bool]") -> "sa.Select[Any]":
        """Select columns over the entries, under a condition on the solves."""
        rows = self.table.c
        is_solved = sa.and_(
            solve.c.challenge_id == rows.challenge_id,
            solve.c.type == CORRECT,
            solve.c.user_id.is_not(None),
        )
        is_member = sa.and_(
            membership.c.dojo_id == rows.dojo_id, membership.c.user_id == solve.c.user_id
        )
        return (
            sa.select(*columns)
            .select_from(
                self.table.join(solve, is_solved)
                .outerjoin(solver, solver.c.id == solve.c.user_id)
                .outerjoin(membership, is_member)
            )
            .where(of, self._has_flags)
        )


_NO_DATE: "sa.ColumnElement[datetime]" = sa.literal_column("'-infinity'::timestamp")


def _of_dojos(
    of_rows: "sa.ColumnElement[bool]", of_solves: "sa.ColumnElement[bool]"
) -> "sa.Select[Any]":
    """Select entries for a binary COPY, with columns of fixed width: see statsd/boards/columns.py.

    A missing date is -infinity, which no window includes.
    """
    rows = _Rows(of_rows)
    date = sa.func.coalesce(solve.c.date, _NO_DATE)
    columns = [date if each is solve.c.date else each for each in rows.columns]
    return rows.entries(rows.table.c.dojo_id, solve.c.user_id, *columns, of=of_solves)


ENTRIES_OF_DOJOS = _of_dojos(among(row.c.dojo_id, DOJO_IDS), sa.true())
"""The parameter is `dojo_ids`."""

ENTRIES_IN_RANGE = _of_dojos(
    row.c.dojo_id == sa.bindparam("dojo_id", type_=sa.Integer),
    sa.and_(
        solve.c.user_id >= sa.bindparam("first", type_=sa.Integer),
        solve.c.user_id <= sa.bindparam("last", type_=sa.Integer),
    ),
)
"""The parameters are `dojo_id`, and the `first` and `last` id of the users."""


def _entries_of_pairs() -> "sa.Select[Any]":
    """Select, for each pair of dojo and user, arrays over the user's entries there.

    A pair may have challenges; then only their entries are selected.

    An aggregate in a LATERAL is planned for one pair, and uses the index by challenge and user.
    With a plain join of many pairs the planner would read all submissions.
    """
    pair = (
        sa.func.unnest(
            integers("dojos_of_pairs"),
            integers("users_of_pairs"),
            sa.bindparam("challenges_of_pairs", type_=ARRAY(sa.Text)),
        )
        .table_valued("dojo_id", "user_id", sa.column("challenge_ids", sa.Text))
        .render_derived()
    )
    chosen = sa.cast(pair.c.challenge_ids, ARRAY(sa.Integer))
    is_chosen = sa.or_(chosen.is_(None), row.c.challenge_id == sa.any_(chosen))
    rows = _Rows(sa.and_(row.c.dojo_id == pair.c.dojo_id, is_chosen), pair)
    order = (rows.table.c.module_index, rows.table.c.challenge_index)
    # Python has no dates before the year 1 or after 9999. They only decide about windows.
    first: sa.ColumnElement[datetime] = sa.literal_column("'0001-01-01'::timestamp")
    last: sa.ColumnElement[datetime] = sa.literal_column("'9999-12-31'::timestamp")
    known = sa.func.nullif(solve.c.date, _NO_DATE)
    date = sa.case((known < first, first), (known > last, last), else_=known)
    arrays = [
        sa.func.array_agg(aggregate_order_by(date if each is solve.c.date else each, *order)).label(
            each.name
        )
        for each in rows.columns
    ]
    own = rows.entries(*arrays, of=solve.c.user_id == pair.c.user_id).correlate(pair).lateral()
    return sa.select(
        pair.c.dojo_id,
        pair.c.user_id,
        solver.c.name,
        solver.c.email,
        (solver.c.id.is_not(None) & solver.c.hidden.is_not(True)).label("is_shown"),
        *own.c,
    ).select_from(pair.join(own, sa.true()).outerjoin(solver, solver.c.id == pair.c.user_id))


ENTRIES_OF_PAIRS = _entries_of_pairs()


def pairs(
    jobs: Iterable[UserEntries], changed: Mapping[str, Sequence[int]]
) -> dict[str, list[Any]]:
    """Return the parameters of `ENTRIES_OF_PAIRS`.

    `changed` has, by job name, the challenges whose entries are wanted; absent: all.
    """
    wanted = list(jobs)
    chosen = (changed.get(each.name) for each in wanted)
    return {
        "dojos_of_pairs": [each.dojo_id for each in wanted],
        "users_of_pairs": [each.user_id for each in wanted],
        "challenges_of_pairs": [
            None if each is None else "{" + ",".join(map(str, each)) + "}" for each in chosen
        ],
    }


def entries_in(found: Any) -> list[int]:
    """Return the entries in a row of `ENTRIES_OF_PAIRS`: a flat list of their fields."""
    if not found.solve_id:
        return []
    flat: list[int] = []
    for module_index, challenge_index, challenge_id, solve_id, date, flags in zip(
        found.module_index,
        found.challenge_index,
        found.challenge_id,
        found.solve_id,
        found.date,
        found.flags,
        strict=True,
    ):
        flat += module_index, challenge_index, challenge_id, solve_id, in_range(date), flags
    return flat


def in_range(date: datetime | None) -> int:
    """Return a date in microseconds since 1970, as near as a double of Lua comes to it."""
    return NO_DATE if date is None else min(max(microseconds(date), NO_DATE + 1), -NO_DATE)
