"""Scoreboards: who solved how much, in a dojo and in its modules (contract, section 4)."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by, array

from statsd import keys
from statsd.calculators import EXPORT_INTERVAL, Calculator, Values
from statsd.calculators.counted import DOJO_IDS, counted_solves, every_dojo, leaves, places
from statsd.refresh import Priority, Refresh
from statsd.schema import dojo_challenges as row, submissions as solve, users as solver

WINDOWS = (0, 7, 30)  # days; 0 is all time
BATCH = 50  # dojos: one pass for as many takes a third of what five do


class Scoreboard(Refresh, frozen=True):
    """All scoreboards of one dojo: its own and its modules', in every window.

    They are one refresh, since one pass over the dojo's solves gives them all. The pass costs
    as much as the dojo has solves.
    """

    kind: ClassVar[str] = "scoreboard"
    priority: ClassVar[Priority] = Priority.EXPORT
    dojo_id: int


def within(days: int) -> "sa.ColumnElement[bool]":
    """Say that a solve is in a window; a solve without a date is in that of all time alone."""
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
    """Return when the first solve leaves a window, of a row with the columns above."""
    leaving = [
        leaves(date, timedelta(days=days))
        for days in WINDOWS
        if days and (date := getattr(found, f"oldest{days}"))
    ]
    return min(filter(None, leaving), default=None)


def standings() -> "sa.sql.expression.Subquery":
    """Count by module and user, and by dojo and user, where `module_index` is null.

    `solves` and `last`, the largest id of a counted solve, are arrays over the windows.
    """
    counts = [sa.func.count().filter(within(days)) for days in WINDOWS]
    lasts = [sa.func.max(solve.c.id).filter(within(days)) for days in WINDOWS]
    place = (row.c.dojo_id, row.c.module_index, solve.c.user_id)
    return (
        counted_solves(*place, array(counts).label("solves"), array(lasts).label("last"))
        .group_by(
            sa.func.grouping_sets(sa.tuple_(*place), sa.tuple_(row.c.dojo_id, solve.c.user_id))
        )
        .subquery()
    )


def window_of(standing: "sa.sql.expression.Subquery") -> "sa.sql.expression.TableValuedAlias":
    """Return a row for each window of a standing: `days`, `solves`, `last`."""
    return (
        sa.func.unnest(array(WINDOWS), standing.c.solves, standing.c.last)
        .table_valued("days", "solves", "last")
        .render_derived()
    )


def _boards() -> "sa.Select[Any]":
    """Select one row for each board that has entries: arrays in the order of ranks."""
    standing = standings()
    window = window_of(standing)
    order = (window.c.solves.desc(), window.c.last)
    columns = {
        "user_ids": standing.c.user_id,
        "solves": window.c.solves,
        "lasts": window.c.last,
        "names": solver.c.name,
        "emails": solver.c.email,
    }
    board = (standing.c.dojo_id, standing.c.module_index, window.c.days)
    return (
        sa.select(
            *board,
            *[
                sa.func.array_agg(aggregate_order_by(column, *order)).label(name)
                for name, column in columns.items()
            ],
        )
        .select_from(
            standing.join(window, sa.true()).join(solver, solver.c.id == standing.c.user_id)
        )
        .where(window.c.solves > 0)
        .group_by(*board)
    )


def parameters(wanted: Sequence[Scoreboard], now: datetime) -> Mapping[str, Any]:
    """Return what the statements are bound to."""
    return {DOJO_IDS: [refresh.dojo_id for refresh in wanted], **starts(now)}


def starts(now: datetime) -> dict[str, datetime]:
    """Return what `within` is bound to."""
    return {f"since{days}": now - timedelta(days=days) for days in WINDOWS if days}


def shape(results: Sequence[Sequence["sa.Row[Any]"]]) -> Mapping[Scoreboard, Values]:
    """Return all boards of each dojo that exists, empty ones among them."""
    found, boards = results
    values: dict[Scoreboard, Values] = {}
    for place in found:
        own = values.setdefault(Scoreboard(place.dojo_id), {})
        for module_index in (None, place.module_index):
            for days in WINDOWS:
                own[keys.scoreboard(place.dojo_id, module_index, days)] = empty()
    for board in boards:
        key = keys.scoreboard(board.dojo_id, board.module_index, board.days)
        values[Scoreboard(board.dojo_id)][key] = _entries(board)
    return values


def empty() -> list[dict[str, Any]]:
    """Return the board of a dojo or module in which nobody solved anything."""
    return []


def _entries(board: Any) -> list[dict[str, Any]]:
    columns = zip(board.user_ids, board.solves, board.names, board.emails, strict=True)
    return [
        {"rank": rank, "solves": solves, "user_id": user_id, "name": name, "email": email}
        for rank, (user_id, solves, name, email) in enumerate(columns, start=1)
    ]


calculator = Calculator(
    Scoreboard,
    every_dojo(),
    (places(), _boards()),
    parameters,
    shape,
    batch=BATCH,
    costly=True,
    interval=EXPORT_INTERVAL,
)
