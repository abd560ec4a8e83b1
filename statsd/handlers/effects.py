"""The table of events: the data that each event changes, and so the jobs that follow.

Handlers look up the ids and take the jobs from `EFFECTS`. A statistic that declares its inputs
needs no change of any handler.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from statsd.calculators import Input
from statsd.calculators.catalog import affected
from statsd.calculators.dojo_check import DojoCheck
from statsd.events import (
    ActivityUpdate,
    BeltsUpdate,
    ChallengeSolve,
    ContainerStatsUpdate,
    DojoStatsUpdate,
    EmojisUpdate,
    Event,
    ScoreboardUpdate,
    ScoresUpdate,
    UserUpdate,
)
from statsd.job import Job, Priority
from statsd.servers.docker import Containers

DOJO, USER, SITE = ("dojo_id",), ("user_id",), ()
NONE = Input(0)


@dataclass(frozen=True)
class Effect:
    """One change that an event stands for."""

    subject: str
    """The dojos or users that the handler passes to `jobs`, in words for the documentation."""
    ids: tuple[str, ...]
    """The ids that are passed to `jobs`."""
    inputs: Input = NONE
    """The data that changed: all statistics follow that depend on it."""
    named: tuple[type[Job], ...] = ()
    """The jobs that follow where the event names its statistics."""
    site_class: Priority | None = None
    """The class of statistics of the whole site that follow, unless their own is less urgent."""

    def jobs(self, **ids: int) -> list[Job]:
        """Return the jobs that follow, for one set of ids."""
        return [*affected(self.inputs, **ids), *(kind.of(*ids.values()) for kind in self.named)]

    def class_of(self, job: Job) -> Priority | None:
        """Return the class of a job that follows; None where it is the job's own."""
        if self.site_class is None or job.__struct_fields__:
            return None
        return max(self.site_class, job.priority)


EFFECTS: Mapping[type[Event], tuple[Effect, ...]] = {
    ChallengeSolve: (
        Effect("the solver", USER, Input.SOLVES),
        Effect("each dojo that has the challenge", DOJO + USER, Input.SOLVES),
    ),
    DojoStatsUpdate: (
        # Emojis have the names of dojos, but few changes of a dojo are changes of its name.
        Effect("the dojo", DOJO, Input.STRUCTURE, site_class=Priority.ORDINARY),
    ),
    ScoreboardUpdate: (Effect("the dojo, or the dojo of the module", DOJO, named=(DojoCheck,)),),
    ScoresUpdate: (Effect("the dojo, or each public or official dojo", DOJO, named=(DojoCheck,)),),
    BeltsUpdate: (Effect("the site", SITE, Input.BELTS),),
    EmojisUpdate: (Effect("the site", SITE, Input.EMOJIS),),
    ActivityUpdate: (Effect("the user", USER, Input.SOLVES),),
    UserUpdate: (
        Effect("the user", USER, Input.USERS),
        Effect("each dojo in which the user has solves or a membership", DOJO + USER, Input.USERS),
        # Memberships and solves are deleted with the user, and nothing tells in which dojos.
        Effect(
            "instead, if the user is deleted: every dojo", DOJO + USER, Input.SOLVES | Input.USERS
        ),
    ),
    ContainerStatsUpdate: (Effect("the site", SITE, named=(Containers,)),),
}


def event_table() -> str:
    """Return `EFFECTS` as a table in Markdown: event, subject, and the jobs that follow."""
    lines = ["| event | for | jobs |", "|---|---|---|"]
    for event, effects in EFFECTS.items():
        first = _names(effects[0])
        lines.append(f"| `{event.type}` | {effects[0].subject} | {', '.join(first)} |")
        for effect in effects[1:]:
            further = (name for name in _names(effect) if name not in first)
            lines.append(f"| | {effect.subject} | {', '.join(further)} |")
    return "\n".join(lines)


def _names(effect: Effect) -> list[str]:
    jobs = effect.jobs(**dict.fromkeys(effect.ids, 0))
    return sorted(_name(job, effect.class_of(job)) for job in jobs)


def _name(job: Job, priority: Priority | None) -> str:
    name = ":".join((job.kind, *(f"{{{field}}}" for field in job.__struct_fields__)))
    return f"`{name}`" if priority is None else f"`{name}` (class {priority.name.lower()})"
