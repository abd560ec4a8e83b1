"""How often each challenge of a module was solved; see docs/contract.md.

Solves of optional challenges count here, and in no other statistic of a dojo.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa

from statsd import keys
from statsd.calculators import Calculator, Cost, Input, Values
from statsd.calculators.counted import DOJO_IDS, counted_solves, every_dojo, scopes
from statsd.job import Job, Priority
from statsd.schema import dojo_challenges as row

PART = 20  # dojos


class ChallengeSolves(Job, frozen=True):
    """The solves of the challenges of all modules of one dojo.

    One job covers all modules, since one pass over the dojo's solves gives all of them. The pass
    takes as long as the dojo has solves.
    """

    kind: ClassVar[str] = "challenge_solves"
    priority: ClassVar[Priority] = Priority.EXPORT
    dojo_id: int


def _counts() -> "sa.Select[Any]":
    challenge = (row.c.dojo_id, row.c.module_index, row.c.challenge_id)
    counts = counted_solves(*challenge, sa.func.count().label("solves"), with_optional=True)
    return counts.group_by(*challenge).order_by(row.c.dojo_id)


def parameters(jobs: Sequence[ChallengeSolves], _now: datetime) -> Mapping[str, Any]:
    """Return the parameters of the statements."""
    return {DOJO_IDS: [job.dojo_id for job in jobs]}


def shape(results: Sequence[Sequence["sa.Row[Any]"]]) -> Mapping[ChallengeSolves, Values]:
    """Return the counts of each module. They leave out challenges without solves.

    A dojo without modules has no keys, like a dojo that does not exist.
    """
    found, counts = results
    values: dict[ChallengeSolves, Values] = {}
    for scope in found:
        own = values.setdefault(ChallengeSolves(scope.dojo_id), {})
        if scope.module_index is not None:
            own[keys.challenge_solves(scope.dojo_id, scope.module_index)] = empty()
    for count in counts:
        key = keys.challenge_solves(count.dojo_id, count.module_index)
        values[ChallengeSolves(count.dojo_id)][key][str(count.challenge_id)] = count.solves
    return values


def empty() -> dict[str, int]:
    """Return the counts of a module in which nobody solved anything."""
    return {}


calculator = Calculator(
    job=ChallengeSolves,
    every=every_dojo(),
    statements=(scopes(), _counts()),
    parameters=parameters,
    shape=shape,
    empty=empty,
    depends_on=Input.STRUCTURE | Input.SOLVES | Input.USERS,
    cost=Cost(part=PART, full_pass=True),
)
