"""Mapped objects as rows of the contract's tables, whatever the names of their classes.

A class may be mapped to several tables (joined inheritance), and an attribute may have another
name than its column.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm.exc import UnmappedColumnError
from sqlalchemy.orm.interfaces import MANYTOONE

from statsd.client.listeners.changes import COLUMNS
from statsd.client.listeners.lookups import known

if TYPE_CHECKING:  # SQLAlchemy 1.4 has some of these names elsewhere
    from collections.abc import Iterator, Mapping

    from sqlalchemy.orm import InstanceState, Mapper
    from sqlalchemy.sql.expression import TableClause


class View(NamedTuple):
    """A table of the contract, as a mapper sees it.

    `attributes` has the attributes of the mapped columns of the contract. `watched` are all
    attributes whose change changes such a column. They include many-to-one relationships, which
    become a foreign key in the flush.
    """

    table: TableClause
    attributes: Mapping[str, str]
    watched: tuple[str, ...]


@lru_cache(maxsize=1024)
def views(mapper: Mapper[Any]) -> tuple[View, ...]:
    """Return the tables of the contract in which an object of this mapper has rows."""
    return tuple(_view(mapper, table) for table in mapper.tables if known(table))


def views_of(obj: object) -> Iterator[tuple[View, InstanceState[Any]]]:
    """Yield the tables in which an object has rows, with the state of the object."""
    state: InstanceState[Any] = sa.inspect(obj)
    return ((view, state) for view in views(state.mapper))


def changed(view: View, state: InstanceState[Any]) -> bool:
    """Say whether a watched attribute of an object was set since it was flushed."""
    attributes = state.attrs  # SQLAlchemy makes a new one for each access
    return any(attributes[name].history.has_changes() for name in view.watched)


def present(view: View, state: InstanceState[Any]) -> dict[str, Any]:
    """Return an object's present values as a row, without columns that are not loaded."""
    names = view.attributes.items()
    row = {column: state.dict[name] for column, name in names if name in state.dict}
    return _identified(view, state, row)


def past(view: View, state: InstanceState[Any]) -> dict[str, Any]:
    """Return an object's values before the change as a row, without columns not loaded."""
    row = {}
    attributes = state.attrs
    for column, name in view.attributes.items():
        history = attributes[name].history
        if before := history.deleted or history.unchanged:
            row[column] = before[0]
    return _identified(view, state, row)


def _identified(view: View, state: InstanceState[Any], row: dict[str, Any]) -> dict[str, Any]:
    """Complete a row with the object's identity, which is always loaded."""
    names = [state.mapper.get_property_by_column(key).key for key in state.mapper.primary_key]
    identity = dict(zip(names, state.identity or (), strict=False))
    keys = {column: identity[name] for column, name in view.attributes.items() if name in identity}
    return {**keys, **row}


def _view(mapper: Mapper[Any], table: TableClause) -> View:
    attributes = {}
    for name in COLUMNS[table.name]:
        if name in table.c:
            try:
                attributes[name] = mapper.get_property_by_column(table.c[name]).key
            except UnmappedColumnError:
                continue  # it is read from the table if it is needed
    columns = {table.c[name] for name in attributes}
    references = [
        relation.key
        for relation in mapper.relationships
        if relation.direction is MANYTOONE and columns & relation.local_columns
    ]
    return View(table, attributes, (*attributes.values(), *references))
