"""What a change of a user makes stale."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from statsd.calculators.activity import Activity
from statsd.calculators.belts import Belts
from statsd.calculators.catalog import of_dojo, of_solver
from statsd.calculators.counted import among
from statsd.calculators.emojis import Emojis
from statsd.events import UserUpdate
from statsd.handlers.registry import Lookup, handles
from statsd.job import Job
from statsd.jobs.pending import PendingJob, now_and_again
from statsd.schema import CORRECT, dojo_challenges as row, dojos, submissions, users


@handles(UserUpdate)
async def user_changed(events: Sequence[UserUpdate], lookup: Lookup) -> Iterable[PendingJob]:
    """Mark what the users have in every dojo in which they solved anything, and awards.

    Scores too, though they have neither names nor hidden users: the event may be that of a
    deletion which is not committed yet. A deleted user's solves are gone with them, and nothing
    says which dojos had counted them: then every dojo is marked. Deleting users is rare, and
    equal marks are one.
    """
    user_ids = sorted({event.user_id for event in events})
    parameters = {"user_ids": user_ids}
    stale: list[Job] = [Belts(), Emojis(), *map(Activity, user_ids)]
    # In this order: who is there after the solves were read had them all then.
    found = await lookup.rows(_DOJOS, parameters)
    some_are_gone = len(await lookup.rows(_USERS, parameters)) < len(user_ids)
    if some_are_gone:
        every = await lookup.rows(_ALL_DOJOS, parameters)
        stale += [job for each in every for job in of_dojo(each.dojo_id)]
    else:
        stale += [job for each in found for job in of_solver(each.dojo_id, each.user_id)]
    return now_and_again(stale)


def _dojos_of_users() -> sa.Select[Any]:
    # Solves have no index by user alone. By challenge and user they have one, and the fence of
    # a LATERAL keeps the planner to it, where it would otherwise read all submissions.
    solved = (
        sa.select(submissions.c.user_id)
        .where(
            submissions.c.challenge_id == row.c.challenge_id,
            submissions.c.type == CORRECT,
            among(submissions.c.user_id, "user_ids"),
        )
        .offset(sa.literal_column("0"))
        .lateral()
    )
    return (
        sa.select(row.c.dojo_id, solved.c.user_id)
        .select_from(row.join(solved, sa.true()))
        .where(row.c.required)
        .distinct()
    )


_USERS = sa.select(users.c.id).where(among(users.c.id, "user_ids"))
_DOJOS = _dojos_of_users()
_ALL_DOJOS = sa.select(dojos.c.dojo_id)
