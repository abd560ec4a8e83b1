"""The structure and the memberships of dojos: what a state was built from, beside the solves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from statsd.boards.columns import Array
from statsd.calculators.counted import DOJO_IDS, among, open_to_all, row_and_visibility
from statsd.schema import (
    CORRECT,
    dojo_challenge_visibilities as visibility,
    dojo_challenges as row,
    dojo_modules as module,
    dojo_users as membership,
    dojos,
    submissions as solve,
    users,
)

MEMBER = np.dtype([("user", "<i4"), ("kind", "u1")])
"""A membership, as a state keeps it."""
ADMIN, OTHER = 2, 1
SENTINEL_MEMBERS = b"\0"
"""Stands before the memberships, so that none differs from a missing key."""


def _structure() -> "sa.Select[Any]":
    """Select a digest of each dojo's rows, modules and visibilities, and its modules.

    The digest changes if and only if a whole pass over the dojo may have another result, though
    the solves, the users and the memberships are the same.
    """
    modules = (
        sa.select(
            sa.func.array_agg(aggregate_order_by(module.c.module_index, module.c.module_index))
        )
        .where(module.c.dojo_id == dojos.c.dojo_id)
        .scalar_subquery()
    )
    place = (row.c.module_index, row.c.challenge_index)
    each = sa.func.concat_ws(
        ":", *place, row.c.challenge_id, row.c.required, visibility.c.start, ";", visibility.c.stop
    )
    rows = (
        sa.select(sa.func.string_agg(each, aggregate_order_by(sa.literal_column("','"), *place)))
        .select_from(row_and_visibility())
        .where(row.c.dojo_id == dojos.c.dojo_id)
        .scalar_subquery()
    )
    is_open = sa.func.coalesce(open_to_all(), sa.false())
    digest = sa.func.md5(
        sa.func.concat_ws("|", is_open, sa.func.array_to_string(modules, ","), rows)
    )
    return (
        sa.select(
            dojos.c.dojo_id,
            digest.label("digest"),
            modules.label("modules"),
            is_open.label("is_open"),
        )
        .where(among(dojos.c.dojo_id, DOJO_IDS))
        .order_by(dojos.c.dojo_id)
    )


def _members() -> "sa.Select[Any]":
    is_admin = sa.func.coalesce(membership.c.type, "") == "admin"
    order = membership.c.user_id
    return (
        sa.select(
            membership.c.dojo_id,
            sa.func.array_agg(aggregate_order_by(membership.c.user_id, order)).label("users"),
            sa.func.array_agg(aggregate_order_by(is_admin, order)).label("are_admins"),
        )
        .where(among(membership.c.dojo_id, DOJO_IDS))
        .group_by(membership.c.dojo_id)
    )


def _sizes() -> "sa.Select[Any]":
    """Estimate the solves of dojos, by a sample of one block of solves in a hundred."""
    sampled = sa.tablesample(solve, sa.func.system(1))
    return (
        sa.select(row.c.dojo_id, (sa.func.count() * 100).label("solves"))
        .select_from(row.join(sampled, sampled.c.challenge_id == row.c.challenge_id))
        .where(sampled.c.type == CORRECT, among(row.c.dojo_id, DOJO_IDS))
        .group_by(row.c.dojo_id)
    )


STRUCTURE, MEMBERS, SIZES = _structure(), _members(), _sizes()
NEWEST_USER = sa.select(sa.func.max(users.c.id))


def parameters(dojo_ids: Sequence[int]) -> Mapping[str, Any]:
    """Return the parameters of both statements."""
    return {DOJO_IDS: dojo_ids}


def packed_members(found: Any | None) -> bytes:
    """Return the memberships in a row of `MEMBERS`, as a state keeps them."""
    members = np.empty(len(found.users) if found else 0, MEMBER)
    if found:
        members["user"] = found.users
        members["kind"] = np.where(np.array(found.are_admins, bool), ADMIN, OTHER)
    return SENTINEL_MEMBERS + members.tobytes()


def changed_members(before: bytes, now: bytes) -> list[int]:
    """Return the users whose membership differs, in order."""
    was, is_now = (np.frombuffer(each[len(SENTINEL_MEMBERS) :], MEMBER) for each in (before, now))
    differing: Array = np.setxor1d(_codes(was), _codes(is_now))
    users: list[int] = np.unique(differing >> 8).tolist()
    return users


def _codes(members: Array) -> Array:
    codes: Array = (members["user"].astype("i8") << 8) + members["kind"]
    return codes
