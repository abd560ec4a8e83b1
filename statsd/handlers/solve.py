"""The handler of solves."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    landed = {
        (each.challenge_id, each.user_id): each.submission_id
        for each in found
        if each.dojo_id is None
    }
    solvers = defaultdict(list)
    for challenge_id, user_id in pairs:
        solvers[challenge_id].append((user_id, (challenge_id, user_id) not in landed))
    dojos = {each.dojo_id: each.challenge_ids for each in found if each.dojo_id is not None}
    return _consequences(solvers, dojos, landed.values())


Solvers = Mapping[int, Sequence[tuple[int, bool]]]
"""By challenge, the users that solved it, and whether the solve is not in the database yet."""


def _consequences(
    solvers: Solvers, dojos: Mapping[int, Sequence[int]], landed: Iterable[int]
) -> Iterator[Consequence]:
    """Yield the jobs, those of one dojo after the other; then the solves in the database.

    A challenge in all dojos, solved by a whole class, has as many jobs as there are dojos times
    users. They are never in memory together.
    """
    own = {
        each
        for challenge_id, users in solvers.items()
        for user_id, again in users
        for each in _pending(_SOLVER.jobs(user_id=user_id), challenge_id, again)
    }
    yield from own
    for dojo_id, challenge_ids in dojos.items():
        in_dojo = {
            each
            for challenge_id in challenge_ids
            for user_id, again in solvers[challenge_id]
            for each in _pending(_DOJO.jobs(dojo_id=dojo_id, user_id=user_id), challenge_id, again)
        }
        yield from in_dojo - own
    yield from map(AcknowledgedSolve, landed)


def _pending(jobs: Iterable[Job], challenge_id: int, again: bool) -> Iterator[PendingJob]:
    """Enqueue jobs, `again` a little later too.

    They are enqueued for the challenge alone where their answers can be for that alone.
    """
    for job in jobs:
        is_partial = isinstance(job, UserEntries | Activity)
        yield PendingJob(job, changed=challenge_id if is_partial else None)
        if again:
            yield PendingJob(job, RECHECK_DELAY)


_NO_ID = sa.cast(sa.null(), sa.Integer)


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
        _NO_ID.label("dojo_id"),
        sa.cast(sa.null(), sa.ARRAY(sa.Integer)).label("challenge_ids"),
    ).select_from(pair.join(solve, sa.true()))


def _dojos() -> sa.Select[Any]:
    """Select the dojos that have any of the challenges, and which ones, in the same columns.

    Optional challenges are among them: their solves are part of one statistic of a dojo. There is
    one row for each dojo, since rows take more time and memory than arrays.
    """
    return (
        sa.select(_NO_ID, _NO_ID, _NO_ID, row.c.dojo_id, sa.func.array_agg(row.c.challenge_id))
        .where(among(row.c.challenge_id, "distinct_ids"))
        .group_by(row.c.dojo_id)
    )


# One statement, since a round trip takes longer than finding the rows.
_FOUND = _landed().union_all(_dojos()).subquery()
LANDED_AND_DOJOS = sa.select(_FOUND)
