"""What a solve makes stale."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from statsd.calculators.activity import Activity
from statsd.calculators.catalog import of_solver
from statsd.calculators.counted import among, paired
from statsd.events import ChallengeSolve
from statsd.handlers.registry import Lookup, handles
from statsd.jobs.pending import RECHECK_DELAY, AcknowledgedSolve, Consequence, PendingJob
from statsd.schema import CORRECT, dojo_challenges as row, submissions


@handles(ChallengeSolve)
async def challenge_solved(
    events: Sequence[ChallengeSolve], lookup: Lookup
) -> Iterable[Consequence]:
    """Mark the solver's activity, and what the solver has in dojos that require the challenge.

    The dojo's statistics and its exported scoreboards are marked by the step that puts the solver's
    entries on its boards, if that changes anything. A solve that is not in the database yet was
    published before its commit (or is deleted, or never came to be): all is marked once more, when
    it has had time to land.
    """
    pairs = {(event.challenge_id, event.user_id) for event in events}
    challenge_ids, user_ids = zip(*pairs, strict=True)
    parameters = {
        "challenge_ids": challenge_ids,
        "user_ids": user_ids,
        "distinct_ids": sorted(set(challenge_ids)),
    }
    found = await lookup.rows(LANDED_AND_DOJOS, parameters)
    landed = [each for each in found if each.dojo_id is None]
    late = pairs - {(each.challenge_id, each.user_id) for each in landed}
    consequences: set[Consequence] = {AcknowledgedSolve(each.submission_id) for each in landed}
    consequences.update(PendingJob(Activity(user_id)) for user_id in user_ids)
    consequences.update(PendingJob(Activity(user_id), RECHECK_DELAY) for _, user_id in late)
    solvers = defaultdict(list)
    for challenge_id, user_id in pairs:
        solvers[challenge_id].append(user_id)
    for each in found:
        for user_id in solvers[each.challenge_id] if each.dojo_id is not None else ():
            stale = of_solver(each.dojo_id, user_id)
            consequences.update(map(PendingJob, stale))
            if (each.challenge_id, user_id) in late:
                consequences.update(PendingJob(job, RECHECK_DELAY) for job in stale)
    return consequences


def _landed() -> sa.Select[Any]:
    """Select the solves among the (challenge_id, user_id) given that are there."""
    wanted = paired(challenge_id="challenge_ids", user_id="user_ids")
    # The limit is a fence: many pairs joined plainly make the planner read all submissions.
    solve = (
        sa.select(submissions.c.id.label("submission_id"))
        .where(
            submissions.c.challenge_id == wanted.c.challenge_id,
            submissions.c.user_id == wanted.c.user_id,
            submissions.c.type == CORRECT,
        )
        .limit(1)
        .lateral()
    )
    return sa.select(
        wanted.c.challenge_id,
        wanted.c.user_id,
        solve.c.submission_id,
        sa.cast(sa.null(), sa.Integer).label("dojo_id"),
    ).select_from(wanted.join(solve, sa.true()))


def _dojos() -> sa.Select[Any]:
    """Select the dojos that require any of the challenges, in the same columns."""
    missing = sa.cast(sa.null(), sa.Integer)
    return (
        sa.select(row.c.challenge_id, missing, missing, row.c.dojo_id)
        .where(row.c.required, among(row.c.challenge_id, "distinct_ids"))
        .distinct()
    )


# One statement: its way to the server and back takes longer than finding all of it.
_FOUND = _landed().union_all(_dojos()).subquery()
LANDED_AND_DOJOS = sa.select(_FOUND)
