"""The jobs that follow from a completed or a failed job, for the scripts and the documentation.

The scripts of the boards (`statsd/boards/lua/hooks.lua`) enqueue them by the name of the occasion.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from statsd.calculators.dojo_arrays import Boards, Exports
from statsd.calculators.dojo_check import DojoCheck
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.user_entries import UserEntries
from statsd.job import Job, Priority


class FollowUp(NamedTuple):
    """A job that is enqueued on an occasion, for the dojo of the job before."""

    job: type[Job]
    priority: Priority | None = None
    """None: the job's own class."""


class Occasion(NamedTuple):
    """Something that happens to a dojo's state when a job completes or fails."""

    of: type[Job]
    when: str
    """A description for the documentation."""
    then: tuple[FollowUp, ...]


BUILD, SOON = FollowUp(Boards), FollowUp(Boards, Priority.INTERACTIVE)
EXPORT, TOTALS = FollowUp(Exports), FollowUp(DojoStats)

OCCASIONS: Mapping[str, Occasion] = {
    "entries_written": Occasion(UserEntries, "completed: the entries were written", (TOTALS,)),
    "arrays_changed": Occasion(
        UserEntries, "completed, or a solve left a window: arrays changed", (EXPORT,)
    ),
    "state_missing": Occasion(
        UserEntries, "completed: the dojo has no state, or lost a key of it", (BUILD, TOTALS)
    ),
    "module_missing": Occasion(
        UserEntries, "completed: the state lacks a module of the entries", (SOON, TOTALS)
    ),
    "user_entries_buried": Occasion(UserEntries, "failed for good", (SOON, TOTALS)),
    "dojo_changed": Occasion(
        DojoCheck, "completed: the dojo differs from what its state was built from", (SOON, TOTALS)
    ),
    "boards_installed": Occasion(
        Boards, "a new state replaced a doubtful one, or one that statistics came from", (TOTALS,)
    ),
    "written_in_part": Occasion(
        UserEntries,
        "completed for some challenges: the user has another name, or the state is built anew",
        (FollowUp(UserEntries, Priority.ORDINARY),),
    ),
    "arrays_left": Occasion(
        Exports, "completed: more arrays changed, or some still rest", (EXPORT,)
    ),
    "arrays_asked_for": Occasion(
        Scoreboard, "asked for by a reader: the dojo has no state", (SOON,)
    ),
}


def by_occasion() -> dict[str, list[dict[str, Any]]]:
    """Return the table for the scripts."""
    return {
        name: [{"kind": each.job.kind, "class": int(_class(each))} for each in occasion.then]
        for name, occasion in OCCASIONS.items()
    }


def _class(follow_up: FollowUp) -> Priority:
    return follow_up.job.priority if follow_up.priority is None else follow_up.priority


def table() -> str:
    """Return the table for the documentation."""
    rows = ["| job | when | enqueues |", "|---|---|---|"]
    for each in OCCASIONS.values():
        then = ", ".join(f"`{one.job.kind}` ({_class(one).name.lower()})" for one in each.then)
        rows.append(f"| `{each.of.kind}` | {each.when} | {then} |")
    return "\n".join(rows)
