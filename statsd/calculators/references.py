"""Statements that look whether a dojo, a module or a user exists."""

from typing import Any

import sqlalchemy as sa

from statsd import keys
from statsd.job import Job
from statsd.schema import dojo_modules, dojos, users

_COLUMNS = {"dojo_id": dojos.c.dojo_id, "user_id": users.c.id}
"""The column with the id that a field of a job has."""


def find_dojo(reference_id: str) -> "sa.Select[Any]":
    """Select the `dojo_id` of the dojo that has this reference id now."""
    slug, dojo_id = keys.split_reference_id(reference_id)
    official = sa.func.coalesce(dojos.c.official, sa.false())
    has_reference = sa.and_(official, dojos.c.id == reference_id)
    if dojo_id is not None:
        own_form = sa.and_(sa.not_(official), dojos.c.dojo_id == dojo_id, dojos.c.id == slug)
        has_reference = sa.or_(has_reference, own_form)
    return sa.select(dojos.c.dojo_id).where(has_reference).order_by(dojos.c.dojo_id).limit(1)


def find_scope(dojo_id: int, module_index: int | None) -> "sa.Select[Any]":
    """Select the `dojo_id` of a dojo or, with an index, of a module, if it exists."""
    if module_index is None:
        return sa.select(dojos.c.dojo_id).where(dojos.c.dojo_id == dojo_id)
    return sa.select(dojo_modules.c.dojo_id).where(
        dojo_modules.c.dojo_id == dojo_id, dojo_modules.c.module_index == module_index
    )


def find_subject(job: Job) -> "sa.Select[Any]":
    """Select the fields of a job, in order, if the dojo and the user that they name exist."""
    fields = job.__struct_fields__
    # A scalar subquery for each, so that two tables are not joined without a condition.
    found = [
        sa.select(_COLUMNS[name]).where(_COLUMNS[name] == getattr(job, name)).scalar_subquery()
        for name in fields
    ]
    row = sa.select(*[each.label(name) for each, name in zip(found, fields, strict=True)])
    subject = row.subquery()
    return sa.select(subject).where(*[column.is_not(None) for column in subject.c])
