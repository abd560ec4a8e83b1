"""Mapped objects seen as rows of the contract's tables, whatever their classes are called.

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

    `attributes` are those of its columns that matter and are mapped. `watched` are the
    attributes that change such a column when they change: many-to-one relationships too, which
    become a foreign key in the flush.
    """

    table: TableClause
    attributes: Mapping[str, str]
    watched: tuple[str, ...]


@lru_cache(maxsize=1024)
def views(mapper: Mapper[Any]) -> tuple[View, ...]:
    """Return the tables of the contract that an object of this mapper has rows in."""
    return tuple(_view(mapper, table) for table in mapper.tables if known(table))


def views_of(obj: object) -> Iterator[tuple[View, InstanceState[Any]]]:
    """Yield the rows an object stands for: their tables, with the object's state."""
    state: InstanceState[Any] = sa.inspect(obj)
    return ((view, state) for view in views(state.mapper))


def changed(view: View, state: InstanceState[Any]) -> bool:
    """Return whether something that matters was set on an object since it was flushed."""
    attributes = state.attrs  # made anew each time it is asked for
    return any(attributes[name].history.has_changes() for name in view.watched)


def present(view: View, state: InstanceState[Any]) -> dict[str, Any]:
    """Return what an object holds now, as a row; what is not loaded is missing."""
    names = view.attributes.items()
    row = {column: state.dict[name] for column, name in names if name in state.dict}
    return _identified(view, state, row)


def past(view: View, state: InstanceState[Any]) -> dict[str, Any]:
    """Return what an object held before it was changed, as a row, where that was loaded."""
    row = {}
    attributes = state.attrs
    for column, name in view.attributes.items():
        history = attributes[name].history
        if before := history.deleted or history.unchanged:
            row[column] = before[0]
    return _identified(view, state, row)


def _identified(view: View, state: InstanceState[Any], row: dict[str, Any]) -> dict[str, Any]:
    """Complete a row with the key by which its object is known, which is never unloaded."""
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
                continue  # read from the table where it is needed
    columns = {table.c[name] for name in attributes}
    references = [
        relation.key
        for relation in mapper.relationships
        if relation.direction is MANYTOONE and columns & relation.local_columns
    ]
    return View(table, attributes, (*attributes.values(), *references))
