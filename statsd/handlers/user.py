"""The handler of changed and deleted users."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from statsd.calculators.counted import among
from statsd.events import UserUpdate
from statsd.handlers.effects import EFFECTS
from statsd.handlers.registry import Lookup, handles
from statsd.job import Job
from statsd.jobs.pending import PendingJob, now_and_again
from statsd.schema import (
    CORRECT,
    dojo_challenges as row,
    dojo_users as membership,
    dojos,
    submissions,
    users,
)

_USER, _DOJO, _EVERY_DOJO = EFFECTS[UserUpdate]


@handles(UserUpdate)
async def user_changed(events: Sequence[UserUpdate], lookup: Lookup) -> Iterable[PendingJob]:
    """Enqueue the statistics of the users, of the site, and of the dojos that they are in.

    The event may be that of a deletion that is not committed yet, so statistics without names
    are among them. The solves and memberships of a deleted user are gone, and nothing tells in
    which dojos they were: then the user's entries in every dojo are enqueued. Most have no entries
    to remove, which the live boards find out at once. Deleted users are rare.
    """
    user_ids = sorted({event.user_id for event in events})
    parameters = {"user_ids": user_ids}
    jobs: set[Job] = {job for user_id in user_ids for job in _USER.jobs(user_id=user_id)}
    # The order matters: a user who is there after the solves were read had them all then.
    found = await lookup.rows(_DOJOS, parameters)
    existing = {each.id for each in await lookup.rows(_USERS, parameters)}
    for each in found:
        jobs.update(_DOJO.jobs(dojo_id=each.dojo_id, user_id=each.user_id))
    if deleted := [user_id for user_id in user_ids if user_id not in existing]:
        for each in await lookup.rows(_ALL_DOJOS, {}):
            for user_id in deleted:
                jobs.update(_EVERY_DOJO.jobs(dojo_id=each.dojo_id, user_id=user_id))
    return now_and_again(jobs)


def _dojos_of_users() -> sa.Select[Any]:
    """Select the pairs of a dojo and a user with solves or a membership there.

    Solves of optional challenges are among them.
    """
    # No index of the solves has the user first. The OFFSET keeps the LATERAL apart, so that the
    # planner uses the index by challenge and user instead of reading all submissions.
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
    with_solves = sa.select(row.c.dojo_id, solved.c.user_id).select_from(
        row.join(solved, sa.true())
    )
    with_membership = sa.select(membership.c.dojo_id, membership.c.user_id).where(
        among(membership.c.user_id, "user_ids")
    )
    return sa.select(with_solves.union(with_membership).subquery())


_USERS = sa.select(users.c.id).where(among(users.c.id, "user_ids"))
_DOJOS = _dojos_of_users()
_ALL_DOJOS = sa.select(dojos.c.dojo_id)
