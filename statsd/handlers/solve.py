"""The handler of solves."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from statsd.calculators.activity import Activity
from statsd.calculators.counted import among, paired
from statsd.calculators.user_entries import UserEntries
from statsd.events import ChallengeSolve
from statsd.handlers.effects import EFFECTS
from statsd.handlers.registry import Lookup, handles
from statsd.job import Job
from statsd.jobs.pending import RECHECK_DELAY, AcknowledgedSolve, Consequence, PendingJob
from statsd.schema import CORRECT, dojo_challenges as row, submissions

_SOLVER, _DOJO = EFFECTS[ChallengeSolve]


@handles(ChallengeSolve)
async def challenge_solved(
    events: Sequence[ChallengeSolve], lookup: Lookup
) -> Iterable[Consequence]:
    """Enqueue the statistics of the solvers and of the dojos that have the challenges.

    Statistics that follow from live boards are enqueued when the boards change. An event may be
    published before its commit, so a solve that is not in the database yet enqueues its jobs once
    more, a little later. (Its event may also be that of a deleted solve.)
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
    dojos = defaultdict(list)
    for each in found:
        if each.dojo_id is not None:
            dojos[each.challenge_id].append(each.dojo_id)
    jobs: set[PendingJob] = set()
    recheck: set[Job] = set()
    is_landed = {(each.challenge_id, each.user_id) for each in landed}
    for challenge_id, user_id in pairs:
        own = _SOLVER.jobs(user_id=user_id)
        for dojo_id in dojos[challenge_id]:
            own += _DOJO.jobs(dojo_id=dojo_id, user_id=user_id)
        jobs.update(_pending(job, challenge_id) for job in own)
        if (challenge_id, user_id) not in is_landed:
            recheck.update(own)
    return [
        *(AcknowledgedSolve(each.submission_id) for each in landed),
        *jobs,
        *(PendingJob(job, RECHECK_DELAY) for job in recheck),
    ]


def _pending(job: Job, challenge_id: int) -> PendingJob:
    """Enqueue a job; only for the challenge where its answer can be only for that."""
    return PendingJob(
        job, changed=challenge_id if isinstance(job, UserEntries | Activity) else None
    )


def _landed() -> sa.Select[Any]:
    """Select the solves in the database among pairs of a challenge and a user."""
    pair = paired(challenge_id="challenge_ids", user_id="user_ids")
    # The LIMIT keeps the LATERAL apart: with a plain join of many pairs the planner would read all
    # submissions.
    solve = (
        sa.select(submissions.c.id.label("submission_id"))
        .where(
            submissions.c.challenge_id == pair.c.challenge_id,
            submissions.c.user_id == pair.c.user_id,
            submissions.c.type == CORRECT,
        )
        .limit(1)
        .lateral()
    )
    return sa.select(
        pair.c.challenge_id,
        pair.c.user_id,
        solve.c.submission_id,
        sa.cast(sa.null(), sa.Integer).label("dojo_id"),
    ).select_from(pair.join(solve, sa.true()))


def _dojos() -> sa.Select[Any]:
    """Select the dojos that have any of the challenges, in the same columns.

    Optional challenges are among them: their solves are part of one statistic of a dojo.
    """
    missing = sa.cast(sa.null(), sa.Integer)
    return (
        sa.select(row.c.challenge_id, missing, missing, row.c.dojo_id)
        .where(among(row.c.challenge_id, "distinct_ids"))
        .distinct()
    )


# One statement, since a round trip takes longer than finding the rows.
_FOUND = _landed().union_all(_dojos()).subquery()
LANDED_AND_DOJOS = sa.select(_FOUND)
