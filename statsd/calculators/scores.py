"""Scores: ranks and counts in public and official dojos and their modules; see docs/contract.md.

Unlike a scoreboard, scores count all solves of required challenges: also solves of hidden users
and of the dojo's admins, and solves outside of a visibility. No other condition is lifted. So a
challenge row without its module does not count, and the scores of a dojo are the sums of those of
its modules. The table of users is not read: where a database keeps the solves of deleted users,
they count.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from statsd import keys
from statsd.calculators import Calculator, Cost, Input, Values
from statsd.calculators.counted import DOJO_IDS, among, every_dojo, open_to_all, scopes, with_solves
from statsd.job import Job, Priority
from statsd.schema import dojo_challenges as row, submissions as solve

BATCH = 50  # dojos


class Scores(Job, frozen=True):
    """The scores of one dojo and of its modules. Only a public or official dojo has any.

    One job covers all of them, since one pass over the dojo's solves gives all of them. The pass
    takes as long as the dojo has solves.
    """

    kind: ClassVar[str] = "scores"
    priority: ClassVar[Priority] = Priority.EXPORT
    dojo_id: int


def _ranks() -> "sa.Select[Any]":
    """Select a row for each dojo (`module_index` is null) and module: arrays in rank order."""
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


def parameters(jobs: Sequence[Scores], _now: datetime) -> Mapping[str, Any]:
    """Return the parameters of the statements."""
    return {DOJO_IDS: [job.dojo_id for job in jobs]}


def shape(results: Sequence[Sequence["sa.Row[Any]"]]) -> Mapping[Scores, Values]:
    """Return the scores of each public or official dojo, including empty ones."""
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
    """Return the scores of a dojo or module without solves."""
    return {"ranks": [], "solves": {}}


calculator = Calculator(
    job=Scores,
    every=every_dojo(),  # the statements leave out dojos that are not open to all
    statements=(scopes().where(open_to_all()), _ranks()),
    parameters=parameters,
    shape=shape,
    empty=empty,
    depends_on=Input.STRUCTURE | Input.SOLVES | Input.USERS,
    cost=Cost(batch=BATCH, part=1, full_pass=True),
)
