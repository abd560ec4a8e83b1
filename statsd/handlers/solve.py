"""What a solve makes stale."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from statsd.calculators.counted import among
from statsd.calculators.dojo_stats import DojoStats
from statsd.events import ChallengeSolve
from statsd.refresh import RECHECK_DELAY, Mark
from statsd.registry import Lookup, handles
from statsd.schema import dojo_challenges, submissions


@handles(ChallengeSolve)
async def challenge_solved(events: Sequence[ChallengeSolve], lookup: Lookup) -> Iterable[Mark]:
    """Mark the statistics of every dojo that requires the challenge.

    A solve that is not in the database yet was published before its commit (or is deleted, or
    never came to be): its dojos are marked once more, when it has had time to land.
    """
    pairs = {(event.challenge_id, event.user_id) for event in events}
    found = {(row.challenge_id, row.user_id) for row in await lookup.rows(_landed(pairs))}
    missing = {challenge_id for challenge_id, _ in pairs - found}
    marks = set()
    for row in await lookup.rows(_dojos_of({challenge_id for challenge_id, _ in pairs})):
        marks.add(Mark(DojoStats(row.dojo_id)))
        if row.challenge_id in missing:
            marks.add(Mark(DojoStats(row.dojo_id), RECHECK_DELAY))
    return marks


def _landed(pairs: Iterable[tuple[int, int]]) -> sa.Select[tuple[int, int]]:
    """Return the solves among the (challenge_id, user_id) given that are there."""
    challenge_ids, user_ids = zip(*sorted(pairs), strict=True)
    wanted = (
        sa.func.unnest(
            sa.literal(challenge_ids, sa.ARRAY(sa.Integer)),
            sa.literal(user_ids, sa.ARRAY(sa.Integer)),
        )
        .table_valued("challenge_id", "user_id")
        .render_derived()
    )
    # The limit is a fence: many pairs joined plainly make the planner read all submissions.
    solve = (
        sa.select(sa.true().label("landed"))
        .where(
            submissions.c.challenge_id == wanted.c.challenge_id,
            submissions.c.user_id == wanted.c.user_id,
            submissions.c.type == "correct",
        )
        .limit(1)
        .lateral()
    )
    return sa.select(wanted.c.challenge_id, wanted.c.user_id).select_from(
        wanted.join(solve, sa.true())
    )


def _dojos_of(challenge_ids: Iterable[int]) -> sa.Select[tuple[int, int]]:
    row = dojo_challenges.c
    return (
        sa.select(row.dojo_id, row.challenge_id)
        .where(row.required, among(row.challenge_id, challenge_ids))
        .distinct()
    )
