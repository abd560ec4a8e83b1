"""The handler of changed and deleted users."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from statsd.calculators.counted import among
from statsd.events import UserUpdate
from statsd.handlers.effects import EFFECTS, Effect
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
    # The order matters: a user who is there after the solves were read had them all then.
    found = await lookup.rows(_DOJOS, parameters)
    existing = {each.id for each in await lookup.rows(_USERS, parameters)}
    deleted = [user_id for user_id in user_ids if user_id not in existing]
    every_dojo = await lookup.rows(_ALL_DOJOS, {}) if deleted else ()
    concerned = [
        *((_DOJO, each.dojo_id, each.user_ids) for each in found),
        *((_EVERY_DOJO, each.dojo_id, deleted) for each in every_dojo),
    ]
    return now_and_again(_jobs(user_ids, concerned))


def _jobs(
    user_ids: Iterable[int], concerned: Iterable[tuple[Effect, int, Iterable[int]]]
) -> Iterator[Job]:
    """Yield the jobs of the users, then those of one dojo after the other; see the solves."""
    own = {job for user_id in user_ids for job in _USER.jobs(user_id=user_id)}
    yield from own
    for effect, dojo_id, its_users in concerned:
        in_dojo = {
            job for user_id in its_users for job in effect.jobs(dojo_id=dojo_id, user_id=user_id)
        }
        yield from in_dojo - own


def _dojos_of_users() -> sa.Select[Any]:
    """Select the dojos in which any of the users have solves or a membership, and those users.

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
    pair = with_solves.union(with_membership).subquery()
    users_of_dojo = sa.func.array_agg(pair.c.user_id).label("user_ids")
    return sa.select(pair.c.dojo_id, users_of_dojo).group_by(pair.c.dojo_id)


_USERS = sa.select(users.c.id).where(among(users.c.id, "user_ids"))
_DOJOS = _dojos_of_users()
_ALL_DOJOS = sa.select(dojos.c.dojo_id)
