"""The rows that are changed by statements a session executes outside of its unit of work.

For UPDATE and DELETE the rows are read before, with the same WHERE, and again after, by key.
For INSERT they are the values and parameters of the statement.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from statsd.client.listeners.changes import COLUMNS, KEYS, Change, Row
from statsd.client.listeners.lookups import (
    Before,
    Key,
    key_of,
    known,
    remember,
    rows_by_key,
    rows_where,
)
from statsd.client.listeners.mapped import views

if TYPE_CHECKING:  # SQLAlchemy 1.4 has some of these names elsewhere
    from collections.abc import Iterator, Mapping

    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Mapper, ORMExecuteState
    from sqlalchemy.sql.expression import TableClause

_ROW_OF_VALUES = re.compile(r"(.+)_m(\d+)")
"""The names that SQLAlchemy gives the parameters of `insert(...).values([{...}, {...}])`."""


class Statement:
    """An INSERT, UPDATE or DELETE that a session is about to execute.

    `tables` are the tables of the contract that it changes. There are several if its entity has
    several and the ORM writes all of them (rows given as parameters, SQLAlchemy 2.x). `flushes` is
    whether the session flushes by itself before the statement.
    """

    def __init__(self, state: ORMExecuteState) -> None:
        # select(X).from_statement(insert(X)...returning(X)) wraps the statement that it runs.
        self.statement: Any = getattr(state.statement, "element", state.statement)
        self.is_insert: bool = state.is_insert
        self.is_update: bool = state.is_update
        self.mapper: Mapper[Any] | None = state.bind_mapper
        given: Any = state.parameters
        self.rows_given = bool(given) and self.mapper is not None
        self.many = not (given is None or hasattr(given, "keys"))
        self.parameters: list[Mapping[str, Any]] = list(given) if self.many else [given or {}]
        self.tables = [table for table in self._candidates() if known(table)]
        self.bind: Mapping[str, Any] = state.bind_arguments
        options = state.execution_options
        self.flushes: bool = (
            self.mapper is not None
            and state.session.autoflush
            and bool(options.get("autoflush", True))
        )

    def _candidates(self) -> Iterator[TableClause]:
        table = self.statement.table
        yield table
        if self.rows_given and self.mapper is not None and (self.many or self.is_insert):
            yield from (view.table for view in views(self.mapper) if view.table.name != table.name)

    def before(self, connection: Connection) -> Before:
        """Return the rows that the statement will change, and the rows that depend on them."""
        before = Before()
        for table in self.tables:
            if not self.is_insert:
                remember(before, connection, table.name, self._touched(connection, table))
        return before

    def changes(self, connection: Connection, before: Before) -> Iterator[Change]:
        """Yield the changes of a statement that was executed."""
        for table in self.tables:
            if self.is_insert:
                yield from (Change(table.name, None, row) for row in self._given(connection, table))
                continue
            old = {key: row for (name, key), row in before.rows.items() if name == table.name}
            new = rows_by_key(connection, table, old)
            if self.is_update and old.keys() != new.keys():
                new = {**self._moved(connection, table, old), **new}
            yield from (Change(table.name, row, new.get(key)) for key, row in old.items())

    def _touched(self, connection: Connection, table: TableClause) -> dict[Key, Row]:
        criterion = self.statement.whereclause
        if criterion is None and self.many:  # the ORM's UPDATE by primary key
            rows = [self._named(table, row) for row in self.parameters]
            keys = [key for row in rows if (key := key_of(table.name, row)) is not None]
            return rows_by_key(connection, table, keys)
        found: dict[Key, Row] = {}
        for parameters in self.parameters:
            found.update(rows_where(connection, table, criterion, parameters))
        return found

    def _moved(
        self, connection: Connection, table: TableClause, rows: Mapping[Key, Row]
    ) -> dict[Key, Row]:
        """Return the new rows by their old keys, where an UPDATE set a part of the key."""
        set_to = self._named(table, self._literals(connection))
        key = {name: set_to[name] for name in KEYS[table.name] if name in set_to}
        return {old: {**row, **key} for old, row in rows.items()} if key else {}

    def _given(self, connection: Connection, table: TableClause) -> list[Row]:
        """Return the rows in the values of an INSERT; none for INSERT ... FROM SELECT."""
        if self.statement.select is not None:
            return []
        rows: dict[int, dict[str, Any]] = {}
        for name, value in self._literals(connection).items():
            of_many = _ROW_OF_VALUES.fullmatch(name)
            column, index = (of_many[1], int(of_many[2])) if of_many else (name, 0)
            rows.setdefault(index, {})[column] = value
        return [
            {**self._discriminator(table), **self._named(table, {**values, **parameters})}
            for values in list(rows.values()) or [{}]
            for parameters in self.parameters
        ]

    def _literals(self, connection: Connection) -> dict[str, Any]:
        """Return the values in a statement's SET or VALUES, by the names of its parameters."""
        if self.is_insert and self.rows_given:
            return {}  # only the ORM can compile the VALUES, which it makes from the parameters
        compiled = self.statement.compile(dialect=connection.dialect)
        return {name: value for name, value in compiled.params.items() if value is not None}

    def _named(self, table: TableClause, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by column names; they are given by column names, keys or attributes."""
        attributes: Mapping[str, str] = {}
        if self.mapper is not None:
            ours = (view for view in views(self.mapper) if view.table.name == table.name)
            attributes = next((view.attributes for view in ours), attributes)
        row = {}
        for name in COLUMNS[table.name]:
            for alias in (attributes.get(name, name), name):
                if alias in values:
                    row[name] = values[alias]
                    break
        return row

    def _discriminator(self, table: TableClause) -> Row:
        """Return the discriminator column of an entity, with the value that the ORM fills in."""
        if self.mapper is None or self.mapper.polymorphic_identity is None:
            return {}
        column: Any = self.mapper.polymorphic_on
        if getattr(column, "table", None) is None or column.table.name != table.name:
            return {}
        return {column.name: self.mapper.polymorphic_identity}
