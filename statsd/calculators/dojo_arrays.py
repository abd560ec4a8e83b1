"""All arrays of a dojo: scoreboards, crews, scores and challenge solves, as one statistic.

Each of them has a calculator of its own, for readers. The daemon makes all of them from the state
of the dojo, or from one whole pass. So they have one job, and one list of keys.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from statsd.calculators import (
    Calculator,
    Cost,
    Input,
    Values,
    challenge_solves,
    crews,
    scoreboard,
    scores,
)
from statsd.calculators.counted import every_dojo
from statsd.job import Job, Priority, register_kind

PARTS: tuple[Calculator[Any], ...] = (
    scoreboard.calculator,
    crews.calculator,
    scores.calculator,
    challenge_solves.calculator,
)
BATCH = 40  # dojos, since one pass over many takes a third of the time of several over few


class Boards(Job, frozen=True):
    """All arrays of one dojo. In the daemon the job is a whole pass, which builds the state too."""

    kind: ClassVar[str] = "boards"
    priority: ClassVar[Priority] = Priority.EXPORT
    dojo_id: int


class Exports(Job, frozen=True):
    """Those arrays of one dojo that changed. The job has no values of its own: see `Boards`."""

    kind: ClassVar[str] = "exports"
    priority: ClassVar[Priority] = Priority.EXPORT
    dojo_id: int


register_kind(Exports)


def parameters(jobs: Sequence[Boards], now: datetime) -> Mapping[str, Any]:
    """Return the parameters of the statements."""
    found: dict[str, Any] = {}
    for part in PARTS:
        found |= part.parameters(jobs, now)
    return found


def shape(results: Sequence[Sequence[Any]]) -> Mapping[Boards, Values]:
    """Return all arrays of each dojo that exists."""
    values: dict[Boards, Values] = {}
    first = 0
    for part in PARTS:
        end = first + len(part.statements)
        for job, own in part.shape(results[first:end]).items():
            values.setdefault(Boards(job.dojo_id), {}).update(own)
        first = end
    return values


calculator = Calculator(
    job=Boards,
    every=every_dojo(),
    statements=tuple(statement for part in PARTS for statement in part.statements),
    parameters=parameters,
    shape=shape,
    empty=dict,
    depends_on=Input.BOARDS,
    cost=Cost(batch=BATCH, full_pass=True),
)
