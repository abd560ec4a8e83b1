"""What a change of a user makes stale."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from statsd.calculators.counted import among
from statsd.calculators.dojo_stats import DojoStats
from statsd.events import UserUpdate
from statsd.refresh import Mark, now_and_again
from statsd.registry import Lookup, handles
from statsd.schema import dojo_challenges, dojos, submissions, users


@handles(UserUpdate)
async def user_changed(events: Sequence[UserUpdate], lookup: Lookup) -> Iterable[Mark]:
    """Mark the statistics of every dojo in which one of the users solved anything.

    A deleted user's solves are gone with them, and nothing says which dojos had counted them:
    then every dojo is marked. Deleting users is rare, and equal marks are one.
    """
    user_ids = {event.user_id for event in events}
    known = {
        row.id
        for row in await lookup.rows(sa.select(users.c.id).where(among(users.c.id, user_ids)))
    }
    statement = sa.select(dojos.c.dojo_id) if user_ids - known else _dojos_of(user_ids)
    return now_and_again(DojoStats(row.dojo_id) for row in await lookup.rows(statement))


def _dojos_of(user_ids: Iterable[int]) -> sa.Select[tuple[int]]:
    # Solves have no index by user alone. By challenge and user they have one, and the fence of
    # a LATERAL keeps the planner to it, where it would otherwise read all submissions.
    solved = (
        sa.select(sa.true().label("solved"))
        .where(
            submissions.c.challenge_id == dojo_challenges.c.challenge_id,
            submissions.c.type == "correct",
            among(submissions.c.user_id, user_ids),
        )
        .limit(1)
        .lateral()
    )
    return (
        sa.select(dojo_challenges.c.dojo_id)
        .select_from(dojo_challenges.join(solved, sa.true()))
        .where(dojo_challenges.c.required)
        .distinct()
    )
