"""Counted solves in SQL, and other parts that statements of calculators share.

A dojo counts a solve once for each of its challenge rows that has the solve's challenge, is
required, belongs to a module, and is visible at the date of the solve. The solver must not be
hidden nor an admin of the dojo and, unless the dojo is official or public, must be a member.
`docs/contract.md` has the full definition.
"""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from statsd.job import TICK
from statsd.schema import (
    CORRECT,
    dojo_challenge_visibilities as visibility,
    dojo_challenges as row,
    dojo_modules as module,
    dojo_users as membership,
    dojos,
    submissions as solve,
    users as solver,
)

DOJO_IDS = "dojo_ids"
"""The name of the parameter with the ids of the dojos."""


def leaves(date: datetime, window: timedelta) -> datetime | None:
    """Return when a solve of this date leaves a window; None where it never does."""
    try:
        return date + window + TICK  # at the end of the window it is still inside
    except OverflowError:
        return None


def among(column: "sa.ColumnElement[int]", parameter: str) -> "sa.ColumnElement[bool]":
    """Say that a column is one of the integers in an array bound to `parameter`."""
    array: Any = sa.bindparam(parameter, type_=sa.ARRAY(sa.Integer))
    return column == sa.any_(array)


def integers(parameter: str) -> "sa.ColumnElement[Any]":
    """Return an array of integers bound to `parameter`, as the argument of a function.

    The cast tells PostgreSQL the type, which SQLAlchemy 1.4 does not.
    """
    array: Any = sa.bindparam(parameter, type_=sa.ARRAY(sa.Integer))
    return sa.cast(array, sa.ARRAY(sa.Integer))


def paired(**parameters: str) -> "sa.sql.expression.TableValuedAlias":
    """Return rows of integers. Each column is named, with the parameter its array is bound to."""
    arrays = [integers(name) for name in parameters.values()]
    return sa.func.unnest(*arrays).table_valued(*parameters).render_derived()


def row_and_visibility(*of: "sa.ColumnElement[bool]") -> "sa.sql.expression.FromClause":
    """Return the challenge rows, each with its visibility where it has one.

    Where few rows are selected, `of` repeats their condition for visibilities. Otherwise the
    planner may read all visibilities.
    """
    return row.outerjoin(
        visibility,
        sa.and_(
            visibility.c.dojo_id == row.c.dojo_id,
            visibility.c.module_index == row.c.module_index,
            visibility.c.challenge_index == row.c.challenge_index,
            *of,
        ),
    )


def visible_at(moment: Any) -> "sa.ColumnElement[bool]":
    """Say that a row's visibility, where it is bounded, includes a moment (naive UTC)."""
    return sa.and_(
        sa.or_(visibility.c.start.is_(None), visibility.c.start <= moment),
        sa.or_(visibility.c.stop.is_(None), visibility.c.stop >= moment),
    )


def every_dojo() -> "sa.Select[Any]":
    """List all dojos, the busiest first, judged by a sample of one block of solves in a hundred."""
    sampled = sa.tablesample(solve, sa.func.system(1))
    solves = (
        sa.select(row.c.dojo_id, sa.func.count().label("solves"))
        .select_from(row.join(sampled, sampled.c.challenge_id == row.c.challenge_id))
        .where(sampled.c.type == CORRECT)
        .group_by(row.c.dojo_id)
        .subquery()
    )
    return (
        sa.select(dojos.c.dojo_id)
        .select_from(dojos.outerjoin(solves, solves.c.dojo_id == dojos.c.dojo_id))
        .order_by(sa.func.coalesce(solves.c.solves, 0).desc(), dojos.c.dojo_id)
    )


def scopes() -> "sa.Select[Any]":
    """Select the dojos in the parameter `dojo_ids`, in order, with the index of each module.

    A dojo without modules has one row, whose `module_index` is null.
    """
    return (
        sa.select(dojos.c.dojo_id, module.c.module_index)
        .select_from(dojos.outerjoin(module, module.c.dojo_id == dojos.c.dojo_id))
        .where(among(dojos.c.dojo_id, DOJO_IDS))
        .order_by(dojos.c.dojo_id)
    )


def single() -> "sa.Select[Any]":
    """List the only job of a statistic of the whole site: one row without columns."""
    return sa.select()


def open_to_all() -> "sa.ColumnElement[bool]":
    """Say that a dojo is official or public. For other dojos it is false or null."""
    return sa.or_(dojos.c.official, dojos.c.data.op("->>")("type") == "public")


def with_modules(rows: "sa.sql.expression.FromClause") -> "sa.sql.expression.FromClause":
    """Join challenge rows to their dojo and their module."""
    return rows.join(dojos, dojos.c.dojo_id == row.c.dojo_id).join(
        module,
        sa.and_(module.c.dojo_id == row.c.dojo_id, module.c.module_index == row.c.module_index),
    )


def with_solves(rows: "sa.sql.expression.FromClause") -> "sa.sql.expression.FromClause":
    """Join challenge rows to their dojo, their module and the solves of their challenge."""
    return with_modules(rows).join(
        solve,
        sa.and_(
            solve.c.challenge_id == row.c.challenge_id,
            solve.c.type == CORRECT,
            solve.c.user_id.is_not(None),
        ),
    )


def counted_solves(
    *columns: Any, of: "sa.ColumnElement[bool] | None" = None, with_optional: bool = False
) -> "sa.Select[Any]":
    """Select `columns` over the counted solves of the dojos in the parameter `dojo_ids`.

    There is one row for each pair of a solve and a challenge row that counts it. Columns are those
    of the tables of `statsd.schema` that are joined here. `of` is a condition that replaces the one
    on `dojo_ids`. `with_optional` adds the solves that would be counted if their row were required.
    """
    return (
        sa.select(*columns)
        .select_from(
            with_solves(row_and_visibility())
            .join(solver, solver.c.id == solve.c.user_id)
            .outerjoin(
                membership,
                sa.and_(
                    membership.c.dojo_id == row.c.dojo_id,
                    membership.c.user_id == solve.c.user_id,
                ),
            )
        )
        .where(
            among(row.c.dojo_id, DOJO_IDS) if of is None else of,
            sa.true() if with_optional else row.c.required,
            sa.or_(open_to_all(), membership.c.user_id.is_not(None)),
            solver.c.hidden.is_not(True),
            sa.func.coalesce(membership.c.type, "") != "admin",
            visible_at(solve.c.date),
        )
    )
