"""Scoreboards: users ranked by solves, in a dojo and in its modules; see docs/contract.md.

The order of ranks is `rank_order` in SQL, and `user_entries.score` on the live boards. Tests
compare both with the definition.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by, array

from statsd import keys
from statsd.calculators import Calculator, Cost, Input, Values
from statsd.calculators.counted import DOJO_IDS, counted_solves, every_dojo, leaves, scopes
from statsd.definitions import WINDOWS
from statsd.job import Job, Priority
from statsd.schema import dojo_challenges as row, submissions as solve, users as solver

BATCH = 100  # dojos: one pass over many takes a third of the time of several passes over few


class Scoreboard(Job, frozen=True):
    """All scoreboards of one dojo: its own and its modules', in every window.

    One job covers all of them, since one pass over the dojo's solves gives all of them. The pass
    takes as long as the dojo has solves. In the daemon it builds the live boards too.
    """

    kind: ClassVar[str] = "scoreboard"
    priority: ClassVar[Priority] = Priority.EXPORT
    dojo_id: int


def within(days: int) -> "sa.ColumnElement[bool]":
    """Say that a solve is in a window. A solve without a date is only in the window of all time."""
    if days == 0:
        return sa.true()
    return solve.c.date >= sa.bindparam(f"since{days}", type_=sa.DateTime)


def oldest() -> "list[sa.Label[datetime]]":
    """Return the oldest date in each window that slides: `oldest7`, `oldest30`."""
    return [
        sa.func.min(solve.c.date).filter(within(days)).label(f"oldest{days}")
        for days in WINDOWS
        if days
    ]


def next_change(found: Any) -> datetime | None:
    """Return when the first solve leaves a window, from a row with the columns of `oldest`."""
    leaving = [
        leaves(date, timedelta(days=days))
        for days in WINDOWS
        if days and (date := getattr(found, f"oldest{days}"))
    ]
    return min(filter(None, leaving), default=None)


def entries_by_user() -> "sa.sql.expression.Subquery":
    """Count the solves of each user, by module and in the dojo (`module_index` is null).

    `solves` and `last`, the largest id of a counted solve, are arrays over the windows.
    """
    counts = [sa.func.count().filter(within(days)) for days in WINDOWS]
    lasts = [sa.func.max(solve.c.id).filter(within(days)) for days in WINDOWS]
    scope = (row.c.dojo_id, row.c.module_index, solve.c.user_id)
    return (
        counted_solves(*scope, array(counts).label("solves"), array(lasts).label("last"))
        .group_by(
            sa.func.grouping_sets(sa.tuple_(*scope), sa.tuple_(row.c.dojo_id, solve.c.user_id))
        )
        .subquery()
    )


def window_of(user_entries: "sa.sql.expression.Subquery") -> "sa.sql.expression.TableValuedAlias":
    """Return a row for each window of the entries of a user: `days`, `solves`, `last`."""
    return (
        sa.func.unnest(array(WINDOWS), user_entries.c.solves, user_entries.c.last)
        .table_valued("days", "solves", "last")
        .render_derived()
    )


def rank_order(window: "sa.sql.expression.TableValuedAlias") -> tuple[Any, ...]:
    """Return the order of ranks on a board: more solves first, then the smaller last solve id."""
    return window.c.solves.desc(), window.c.last


def _boards() -> "sa.Select[Any]":
    """Select one row for each board that has entries, dojo by dojo: arrays in the order of ranks.

    `names` and `emails` are null except on the dojo's own board of all time: it has all users who
    are on any board of the dojo.
    """
    user_entries = entries_by_user()
    window = window_of(user_entries)
    order = rank_order(window)
    has_all_users = sa.and_(user_entries.c.module_index.is_(None), window.c.days == 0)
    board = (user_entries.c.dojo_id, user_entries.c.module_index, window.c.days)

    def in_order(column: "sa.ColumnElement[Any]") -> "sa.ColumnElement[Any]":
        return sa.func.array_agg(aggregate_order_by(column, *order))

    return (
        sa.select(
            *board,
            in_order(user_entries.c.user_id).label("user_ids"),
            in_order(window.c.solves).label("solves"),
            in_order(window.c.last).label("lasts"),
            in_order(solver.c.name).filter(solver.c.id.is_not(None)).label("names"),
            in_order(solver.c.email).filter(solver.c.id.is_not(None)).label("emails"),
        )
        .select_from(
            user_entries.join(window, sa.true()).outerjoin(
                solver, sa.and_(solver.c.id == user_entries.c.user_id, has_all_users)
            )
        )
        .where(window.c.solves > 0)
        .group_by(*board)
        .order_by(user_entries.c.dojo_id)
    )


def parameters(jobs: Sequence[Scoreboard], now: datetime) -> Mapping[str, Any]:
    """Return the parameters of the statements."""
    return {DOJO_IDS: [job.dojo_id for job in jobs], **starts(now)}


def starts(now: datetime) -> dict[str, datetime]:
    """Return the parameters of `within`."""
    return {f"since{days}": now - timedelta(days=days) for days in WINDOWS if days}


def shape(results: Sequence[Sequence["sa.Row[Any]"]]) -> Mapping[Scoreboard, Values]:
    """Return all boards of each dojo that exists, including empty ones."""
    values: dict[Scoreboard, Values] = {}
    for dojo_id, key, entries in boards_of(*results):
        values.setdefault(Scoreboard(dojo_id), {})[key] = entries
    return values


def boards_of(
    found: Sequence["sa.Row[Any]"], boards: Sequence["sa.Row[Any]"]
) -> Iterator[tuple[int, str, list[dict[str, Any]]]]:
    """Yield the dojo id, the key and the entries of each board.

    Each board comes empty first, and once more if it has entries. They come one by one, since the
    entries of all boards of a large dojo take much memory.
    """
    for scope in found:
        for module_index in (None, scope.module_index):
            for days in WINDOWS:
                yield scope.dojo_id, keys.scoreboard(scope.dojo_id, module_index, days), empty()
    people = {board.dojo_id: _people(board) for board in boards if board.names is not None}
    for board in boards:
        key = keys.scoreboard(board.dojo_id, board.module_index, board.days)
        yield board.dojo_id, key, _entries(board, people[board.dojo_id])


def empty() -> list[dict[str, Any]]:
    """Return the board of a dojo or module without solves."""
    return []


def _people(board: Any) -> dict[int, tuple[str | None, str | None]]:
    """Return names and e-mail addresses by user id, from a board that has them."""
    people = zip(board.names, board.emails, strict=True)
    return dict(zip(board.user_ids, people, strict=True))


def _entries(
    board: Any, people: Mapping[int, tuple[str | None, str | None]]
) -> list[dict[str, Any]]:
    columns = enumerate(zip(board.user_ids, board.solves, strict=True), start=1)
    return [
        {
            "rank": rank,
            "solves": solves,
            "user_id": user_id,
            "name": people[user_id][0],
            "email": people[user_id][1],
        }
        for rank, (user_id, solves) in columns
    ]


calculator = Calculator(
    job=Scoreboard,
    every=every_dojo(),
    statements=(scopes(), _boards()),
    parameters=parameters,
    shape=shape,
    empty=empty,
    depends_on=Input.STRUCTURE | Input.BOARDS,
    cost=Cost(batch=BATCH, full_pass=True),
)
