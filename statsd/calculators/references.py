"""Finding dojos, modules and users."""

from typing import Any

import sqlalchemy as sa

from statsd import keys
from statsd.schema import dojo_modules, dojos, users


def find_dojo(reference_id: str) -> "sa.Select[Any]":
    """Select the `dojo_id` of the dojo that is called so now."""
    slug, dojo_id = keys.split_reference_id(reference_id)
    official = sa.func.coalesce(dojos.c.official, sa.false())
    called_so = sa.and_(official, dojos.c.id == reference_id)
    if dojo_id is not None:
        own_form = sa.and_(sa.not_(official), dojos.c.dojo_id == dojo_id, dojos.c.id == slug)
        called_so = sa.or_(called_so, own_form)
    return sa.select(dojos.c.dojo_id).where(called_so).order_by(dojos.c.dojo_id).limit(1)


def find_scope(dojo_id: int, module_index: int | None) -> "sa.Select[Any]":
    """Select the `dojo_id` of a dojo or, with an index, of a module, if it exists."""
    if module_index is None:
        return sa.select(dojos.c.dojo_id).where(dojos.c.dojo_id == dojo_id)
    return sa.select(dojo_modules.c.dojo_id).where(
        dojo_modules.c.dojo_id == dojo_id, dojo_modules.c.module_index == module_index
    )


def find_user(user_id: int) -> "sa.Select[Any]":
    """Select the id of a user, if it exists."""
    return sa.select(users.c.id).where(users.c.id == user_id)
