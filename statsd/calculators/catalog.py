"""The list of all statistics, and which jobs a change of data makes necessary.

A new statistic adds its calculator to `STATISTICS`. The order of the list does not matter.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from statsd.calculators import (
    Calculator,
    Input,
    activity,
    belts,
    dojo_arrays,
    dojo_check,
    dojo_stats,
    emojis,
    user_entries,
)
from statsd.calculators.dojo_arrays import Boards
from statsd.calculators.dojo_check import DojoCheck
from statsd.calculators.user_entries import UserEntries
from statsd.job import Job, Priority

STATISTICS: tuple[Calculator[Any], ...] = (
    activity.calculator,
    belts.calculator,
    dojo_arrays.calculator,
    dojo_stats.calculator,
    emojis.calculator,
)

DEPENDENCIES: Mapping[type[Job], Input] = {
    **{each.job: each.depends_on for each in STATISTICS},
    UserEntries: user_entries.DEPENDS_ON,
    DojoCheck: dojo_check.DEPENDS_ON,
}
"""The inputs of each job that an event can make necessary. `UserEntries` and `DojoCheck` have no
values of their own: they move the states of dojos, from which other statistics follow."""

_calculators: Mapping[str, Calculator[Any]] = {each.job.kind: each for each in STATISTICS}


def _position(calculator: Calculator[Any]) -> tuple[bool, int, Priority, str]:
    """Return the sort key of a statistic in a cold start: those that take long come last."""
    job = calculator.job
    fields = job.__struct_fields__
    subjects = 2 if "user_id" in fields else 0 if fields else 1  # dojos, the site, users
    return job is Boards, subjects, job.priority, job.kind


COLD_START: tuple[Calculator[Any], ...] = tuple(sorted(STATISTICS, key=_position))
"""All statistics in the order in which a cold start computes them."""


def calculator_of(kind: str) -> Calculator[Any]:
    """Return the calculator of a kind; raises KeyError for a job that is no statistic."""
    return _calculators[kind]


def is_statistic(job: Job) -> bool:
    """Say whether a job has a calculator, and so values to compare."""
    return job.kind in _calculators


def affected(change: Input, *, dojo_id: int | None = None, user_id: int | None = None) -> list[Job]:
    """Return the jobs that depend on any of the changed inputs, for these ids.

    A job is among them if all of its fields are given. So a change of a user in a dojo affects
    the statistics of both together, of the dojo, of the user and of the whole site.
    """
    ids = {"dojo_id": dojo_id, "user_id": user_id}
    found = _dependent(change.value, dojo_id is not None, user_id is not None)
    return [job(*[ids[name] for name in fields]) for job, fields in found]


@cache
def _dependent(
    change: int, has_dojo: bool, has_user: bool
) -> tuple[tuple[Callable[..., Job], tuple[str, ...]], ...]:
    """Return the kinds of jobs that depend on a change and have no other ids, with their fields."""
    given = {name for name, has in (("dojo_id", has_dojo), ("user_id", has_user)) if has}
    return tuple(
        (job, job.__struct_fields__)
        for job, inputs in DEPENDENCIES.items()
        if inputs.value & change and given.issuperset(job.__struct_fields__)
    )
