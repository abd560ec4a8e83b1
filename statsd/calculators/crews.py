"""Crews on the boards of dojos and modules (contract, section 4)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

import orjson
import sqlalchemy as sa

from statsd import keys
from statsd.calculators import EXPORT_INTERVAL, Calculator, Values
from statsd.calculators.counted import DOJO_IDS, counted_solves, every_dojo, scopes
from statsd.calculators.crew_tags import Member, ranked, tag_in
from statsd.calculators.scoreboard import WINDOWS, entries_by_user, starts, window_of, within
from statsd.job import Job, Priority
from statsd.schema import dojo_challenges as row, submissions as solve, users as solver

BATCH = 50  # dojos


class Crews(Job, frozen=True):
    """All crews of one dojo: on its own board and on its modules', in every window.

    In the daemon they follow from the live boards; this calculator is for readers, and for when
    there are no boards.
    """

    kind: ClassVar[str] = "crews"
    priority: ClassVar[Priority] = Priority.EXPORT
    dojo_id: int


# Of those whose names have brackets; `tag_in` knows the others from those with a tag.
_HAS_BRACKETS = solver.c.name.like("%[%]%")


def _ranks() -> "sa.Select[Any]":
    """Select the entries that users with brackets have on all boards, ranked among everybody's."""
    user_entries = entries_by_user()
    window = window_of(user_entries)
    board = (user_entries.c.dojo_id, user_entries.c.module_index, window.c.days)
    order = (window.c.solves.desc(), window.c.last)
    rank = sa.func.row_number().over(partition_by=board, order_by=order)
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
    """Select what those users have solved, by module and in the dojo (`module_index` is null).

    For each window, `solvesN` is how often, `challengesN` the sorted ids of different challenges.
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
    of_dojo = sa.tuple_(row.c.dojo_id, solve.c.user_id, *person)
    return (
        counted_solves(*scope, *person, *of_windows)
        .where(_HAS_BRACKETS)
        .group_by(sa.func.grouping_sets(sa.tuple_(*scope, *person), of_dojo))
        .order_by(row.c.dojo_id)
    )


CHALLENGES = _challenges()


def parameters(wanted: Sequence[Crews], now: datetime) -> Mapping[str, Any]:
    """Return what the statements are bound to."""
    return {DOJO_IDS: [job.dojo_id for job in wanted], **starts(now)}


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
        members[board].append(Member(_entry(each), challenges[*board, each.user_id]))
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
    """Return the crews of a board on which nobody has a tag."""
    return []


calculator = Calculator(
    Crews,
    every_dojo(),
    (scopes(), _ranks(), CHALLENGES),
    parameters,
    shape,
    batch=BATCH,
    costly=True,
    interval=EXPORT_INTERVAL,
    together=1,
)


# --- from the live boards


class Solved(NamedTuple):
    """What somebody solved in a place and window."""

    solves: int
    challenges: Sequence[int]
    """Sorted ids, each once."""


Scopes = Mapping[str, Sequence[Solved]]
"""By place (a board's), what somebody solved in each window."""


def packed(name: str | None, email: str | None, scopes: Scopes) -> bytes:
    """Return what the boards keep of one who has a tag; else nothing.

    First, for scripts, each place with the windows in which there are solves (`dojo:101,0:100`),
    then JSON. What is equal is so to the letter.
    """
    if not scopes or tag_in(name) is None:
        return b""
    solved = {scope: [list(own) for own in of_windows] for scope, of_windows in scopes.items()}
    windows = (
        f"{scope}:{''.join(str(int(own.solves > 0)) for own in scopes[scope])}"
        for scope in sorted(scopes)
    )
    text = orjson.dumps([name, email, solved], option=orjson.OPT_SORT_KEYS)
    return b"|".join([",".join(windows).encode(), text])


def packed_of(rows: Iterable[Any]) -> dict[int, bytes]:
    """Return what the boards of one dojo keep of each who has a tag, from rows of `CHALLENGES`."""
    people: dict[int, tuple[str | None, str | None]] = {}
    scopes: defaultdict[int, dict[str, list[Solved]]] = defaultdict(dict)
    for _, module_index, user_id, name, email, *of_windows in rows:
        if tag_in(name):
            people[user_id] = name, email
            scopes[user_id][keys.scope(module_index)] = [
                Solved(solves, challenges or ())
                for solves, challenges in zip(of_windows[::2], of_windows[1::2], strict=True)
            ]
    return {
        user_id: packed(name, email, scopes[user_id]) for user_id, (name, email) in people.items()
    }


def value(dojo_id: int, found_scopes: Iterable[str], people: Iterable[tuple[Any, ...]]) -> Values:
    """Return the crews of all boards of a dojo, from what its live boards say.

    `people` are a user's id, the JSON that is kept of it, and its ranks, from 0, by place an array
    over the windows (none where there is no entry).
    """
    members: dict[tuple[str, int], list[Member]] = {
        (scope, days): [] for scope in found_scopes for days in WINDOWS
    }
    for user_id, text, ranks in people:
        name, email, solved = orjson.loads(text)
        for scope, of_windows in solved.items():
            for i, days in enumerate(WINDOWS):
                solves, challenges = of_windows[i]
                if solves:
                    entry = {
                        "rank": ranks[scope][i] + 1,
                        "solves": solves,
                        "user_id": user_id,
                        "name": name,
                        "email": email,
                    }
                    members[scope, days].append(Member(entry, challenges))
    return {
        keys.crews(dojo_id, keys.module_index_of(scope), days): ranked(own)
        for (scope, days), own in members.items()
    }
