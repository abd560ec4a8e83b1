"""The jobs that follow from a completed or a failed job, for the scripts and the documentation.

The scripts of the boards (`statsd/boards/lua/hooks.lua`) enqueue them by the name of the occasion.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from statsd.calculators.crews import Crews
from statsd.calculators.dojo_stats import DojoStats
from statsd.calculators.scoreboard import Scoreboard
from statsd.calculators.user_entries import UserEntries
from statsd.job import Job, Priority


class FollowUp(NamedTuple):
    """A job that is enqueued on an occasion, for the dojo (and the user) of the job before."""

    job: type[Job]
    derived: bool = False
    """Whether it follows from user entries that are on the boards already. Such a job does not make
    the boards doubtful while it is pending."""
    priority: Priority | None = None
    """None: the job's own class."""


class Occasion(NamedTuple):
    """Something that happens to a dojo's boards when a job completes or fails."""

    of: type[Job]
    when: str
    """A description for the documentation."""
    then: tuple[FollowUp, ...]


REBUILD = FollowUp(Scoreboard)
EXPORT_BOARDS = FollowUp(Scoreboard, derived=True)
TOTALS = FollowUp(DojoStats, derived=True)
EXPORT_CREWS = FollowUp(Crews, derived=True)

OCCASIONS: Mapping[str, Occasion] = {
    "entries_written": Occasion(
        UserEntries, "completed: the entries were written to the boards", (TOTALS,)
    ),
    "entries_changed": Occasion(UserEntries, "completed: a board changed", (EXPORT_BOARDS,)),
    "entries_beside_crews": Occasion(
        UserEntries, "completed: a user of the dojo has a tag", (EXPORT_CREWS,)
    ),
    "entries_without_boards": Occasion(
        UserEntries, "completed: the dojo has no boards to write to", (REBUILD, FollowUp(DojoStats))
    ),
    "entries_in_new_module": Occasion(
        UserEntries, "completed: the boards lack a module of the entries", (REBUILD,)
    ),
    "entries_of_new_day": Occasion(
        UserEntries, "completed: a day has ended since the boards were built", (REBUILD,)
    ),
    "user_entries_buried": Occasion(UserEntries, "failed for good", (REBUILD, FollowUp(DojoStats))),
    "entries_expired": Occasion(
        UserEntries,
        "later: a solve of the user has left a window",
        (FollowUp(UserEntries, priority=Priority.ORDINARY),),
    ),
    "boards_installed": Occasion(Scoreboard, "completed: the new boards were installed", (TOTALS,)),
    "boards_beside_crews": Occasion(
        Scoreboard,
        "completed: a user of the dojo has a tag, or modules came or went",
        (EXPORT_CREWS,),
    ),
    "boards_newer_than_arrays": Occasion(
        Scoreboard, "completed: user entries changed while it was computed", (EXPORT_BOARDS,)
    ),
    "boards_with_incomplete_entries": Occasion(
        Scoreboard,
        "completed: changed user entries lack a module or the day of the new boards",
        (FollowUp(UserEntries),),
    ),
    "boards_without_touched": Occasion(
        Scoreboard,
        "completed: Redis evicted the list of user entries that changed meanwhile",
        (REBUILD,),
    ),
    "boards_evicted": Occasion(
        Scoreboard,
        "Redis evicted the new boards before they were installed",
        (FollowUp(Scoreboard, priority=Priority.INTERACTIVE),),
    ),
    "boards_removed": Occasion(Scoreboard, "completed: the dojo no longer exists", (EXPORT_CREWS,)),
    "scoreboard_buried": Occasion(
        Scoreboard, "failed for good: the boards are removed", (FollowUp(Crews),)
    ),
}


def by_occasion() -> dict[str, list[dict[str, Any]]]:
    """Return the table for the scripts."""
    return {
        name: [
            {"kind": each.job.kind, "class": int(_class(each)), "derived": each.derived}
            for each in occasion.then
        ]
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
