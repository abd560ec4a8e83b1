"""Crews on the boards of dojos and modules; see docs/contract.md."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa

from statsd import keys
from statsd.calculators import Calculator, Cost, Input, Values
from statsd.calculators.counted import DOJO_IDS, counted_solves, every_dojo, scopes
from statsd.calculators.crew_tags import Member, member_of, ranked
from statsd.calculators.scoreboard import entries_by_user, rank_order, starts, window_of, within
from statsd.definitions import WINDOWS
from statsd.job import Job, Priority
from statsd.schema import dojo_challenges as row, submissions as solve, users as solver

BATCH = 50  # dojos


class Crews(Job, frozen=True):
    """All crews of one dojo: on its own board and on its modules', in every window.

    The daemon computes them from the live boards. This calculator is for readers, and for dojos
    whose boards are missing.
    """

    kind: ClassVar[str] = "crews"
    priority: ClassVar[Priority] = Priority.EXPORT
    dojo_id: int


# Few names have brackets. `tag_in` then decides which of them have a tag.
_HAS_BRACKETS = solver.c.name.like("%[%]%")


def _ranks() -> "sa.Select[Any]":
    """Select the entries of users with brackets on all boards, ranked among all entries."""
    user_entries = entries_by_user()
    window = window_of(user_entries)
    board = (user_entries.c.dojo_id, user_entries.c.module_index, window.c.days)
    rank = sa.func.row_number().over(partition_by=board, order_by=rank_order(window))
    scope = (
        sa.select(*board, user_entries.c.user_id, window.c.solves, rank.label("rank"))
        .select_from(user_entries.join(window, sa.true()))
        .where(window.c.solves > 0)
        .subquery()
    )
    return (
        sa.select(*scope.c, solver.c.name, solver.c.email)
        .select_from(scope.join(solver, solver.c.id == scope.c.user_id))
        .where(_HAS_BRACKETS)
        .order_by(scope.c.dojo_id)
    )


def _challenges() -> "sa.Select[Any]":
    """Select the solves of those users, by module and in the whole dojo (`module_index` is null).

    For each window, `solvesN` is their number, and `challengesN` has the sorted ids of different
    challenges.
    """
    scope = (row.c.dojo_id, row.c.module_index, solve.c.user_id)
    of_windows = [
        column
        for days in WINDOWS
        for column in (
            sa.func.count().filter(within(days)).label(f"solves{days}"),
            sa.func.array_agg(solve.c.challenge_id.distinct())
            .filter(within(days))
            .label(f"challenges{days}"),
        )
    ]
    person = (solver.c.name, solver.c.email)
    whole_dojo = sa.tuple_(row.c.dojo_id, solve.c.user_id, *person)
    return (
        counted_solves(*scope, *person, *of_windows)
        .where(_HAS_BRACKETS)
        .group_by(sa.func.grouping_sets(sa.tuple_(*scope, *person), whole_dojo))
        .order_by(row.c.dojo_id)
    )


CHALLENGES = _challenges()


def parameters(jobs: Sequence[Crews], now: datetime) -> Mapping[str, Any]:
    """Return the parameters of the statements."""
    return {DOJO_IDS: [job.dojo_id for job in jobs], **starts(now)}


def shape(results: Sequence[Sequence["sa.Row[Any]"]]) -> Mapping[Crews, Values]:
    """Return the crews of all boards of each dojo that exists."""
    found, ranks, solved = results
    challenges = {
        (each.dojo_id, each.module_index, days, each.user_id): getattr(each, f"challenges{days}")
        for each in solved
        for days in WINDOWS
    }
    members: defaultdict[tuple[int, int | None, int], list[Member]] = defaultdict(list)
    for each in ranks:
        board = (each.dojo_id, each.module_index, each.days)
        members[board].append(member_of(_entry(each), challenges[*board, each.user_id]))
    values: dict[Crews, Values] = {}
    for scope in found:
        own = values.setdefault(Crews(scope.dojo_id), {})
        for index in (None, scope.module_index):
            for days in WINDOWS:
                board = (scope.dojo_id, index, days)
                own[keys.crews(*board)] = ranked(members.get(board, ()))
    return values


def _entry(found: Any) -> dict[str, Any]:
    return {
        "rank": found.rank,
        "solves": found.solves,
        "user_id": found.user_id,
        "name": found.name,
        "email": found.email,
    }


def empty() -> list[dict[str, Any]]:
    """Return the crews of a board without tagged users."""
    return []


calculator = Calculator(
    job=Crews,
    every=every_dojo(),
    statements=(scopes(), _ranks(), CHALLENGES),
    parameters=parameters,
    shape=shape,
    empty=empty,
    depends_on=Input.BOARDS,
    cost=Cost(batch=BATCH, part=1, full_pass=True),
)
