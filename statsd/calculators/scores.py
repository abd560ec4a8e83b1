"""Scores: ranks and counts in public and official dojos and their modules (contract, section 4).

Unlike a scoreboard, scores are made of all solves of required challenges: those of hidden users
and of the dojo's admins, and those outside of a visibility. The contract lifts no other
condition, so a challenge row whose module is gone counts here no more than elsewhere: then the
scores of a dojo are the sums of those of its modules. The solver is not looked up. Where a
database keeps the solves of users it has deleted, they count.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from statsd import keys
from statsd.calculators import EXPORT_INTERVAL, Calculator, Values
from statsd.calculators.counted import DOJO_IDS, among, every_dojo, open_to_all, scopes, with_solves
from statsd.job import Job, Priority
from statsd.schema import dojo_challenges as row, submissions as solve

BATCH = 50  # dojos


class Scores(Job, frozen=True):
    """The scores of one dojo and of its modules; a dojo that is not open to all has none.

    They are one refresh, since one pass over the dojo's solves gives them all. The pass costs
    as much as the dojo has solves.
    """

    kind: ClassVar[str] = "scores"
    priority: ClassVar[Priority] = Priority.EXPORT
    dojo_id: int


def _ranks() -> "sa.Select[Any]":
    """Select one row for each dojo (`module_index` is null) and module: arrays in rank order."""
    scope = (row.c.dojo_id, row.c.module_index, solve.c.user_id)
    score = (
        sa.select(
            *scope,
            sa.func.count().label("solves"),
            sa.func.max(solve.c.date).label("latest"),  # without dates: null, and sorted last
        )
        .select_from(with_solves(row))
        .where(among(row.c.dojo_id, DOJO_IDS), row.c.required, open_to_all())
        .group_by(
            sa.func.grouping_sets(sa.tuple_(*scope), sa.tuple_(row.c.dojo_id, solve.c.user_id))
        )
        .subquery()
    )
    order = (score.c.solves.desc(), score.c.latest, score.c.user_id)
    return (
        sa.select(
            score.c.dojo_id,
            score.c.module_index,
            sa.func.array_agg(aggregate_order_by(score.c.user_id, *order)).label("user_ids"),
            sa.func.array_agg(aggregate_order_by(score.c.solves, *order)).label("solves"),
        )
        .group_by(score.c.dojo_id, score.c.module_index)
        .order_by(score.c.dojo_id)
    )


def parameters(wanted: Sequence[Scores], _now: datetime) -> Mapping[str, Any]:
    """Return what the statements are bound to."""
    return {DOJO_IDS: [job.dojo_id for job in wanted]}


def shape(results: Sequence[Sequence["sa.Row[Any]"]]) -> Mapping[Scores, Values]:
    """Return the scores of each dojo that is open to all, empty ones among them."""
    found, ranks = results
    values: dict[Scores, Values] = {}
    for scope in found:
        own = values.setdefault(Scores(scope.dojo_id), {})
        for module_index in (None, scope.module_index):
            own[keys.scores(scope.dojo_id, module_index)] = empty()
    for each in ranks:
        values[Scores(each.dojo_id)][keys.scores(each.dojo_id, each.module_index)] = {
            "ranks": each.user_ids,
            "solves": dict(zip(map(str, each.user_ids), each.solves, strict=True)),
        }
    return values


def empty() -> dict[str, Any]:
    """Return the scores of a dojo or module in which nobody solved anything."""
    return {"ranks": [], "solves": {}}


calculator = Calculator(
    Scores,
    every_dojo(),  # whether a dojo is open to all is seen when it is computed, one by one
    (scopes().where(open_to_all()), _ranks()),
    parameters,
    shape,
    batch=BATCH,
    costly=True,
    interval=EXPORT_INTERVAL,
    together=1,
)
