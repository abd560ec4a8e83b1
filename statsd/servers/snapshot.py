"""Snapshots: transactions whose statements all see the database at the same moment.

Statements are built with SQLAlchemy, compiled once, and asked through asyncpg as they are: most
of them take less time than an engine takes to execute them.
"""

from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import dialect

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler

Statement = sa.Select[Any] | sa.TextClause
_DIALECT = dialect()  # type: ignore[no-untyped-call]


class Row(asyncpg.Record):  # type: ignore[misc] # asyncpg has no types
    """A row; its columns are attributes, too."""

    def __getattr__(self, column: str) -> Any:
        """Return the value of a column."""
        try:
            return self[column]
        except KeyError:
            raise AttributeError(f"the row has no column {column!r}") from None


class Snapshot:
    """One snapshot of the database, for as long as its transaction is open."""

    def __init__(self, connection: "asyncpg.Connection") -> None:
        """Take a connection, in its transaction."""
        self._connection = connection

    async def rows(
        self, statement: Statement, parameters: Mapping[str, Any] | None = None
    ) -> list[Row]:
        """Return a statement's rows."""
        text, arguments = _asked(statement, parameters)
        rows: list[Row] = await self._connection.fetch(text, *arguments)
        return rows

    async def groups(
        self, statement: Statement, parameters: Mapping[str, Any], *, page: int
    ) -> "Groups":
        """Ask for rows that are in the order of their first column; `page` are read at once."""
        text, arguments = _asked(statement, parameters)
        # Without a name, which behind a pooler might be another one's statement by the next use.
        prepared = await self._connection.prepare(text, name="")
        return Groups(await prepared.cursor(*arguments), page)

    async def scalars(
        self, statement: Statement, parameters: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """Return the first column of a statement's rows."""
        return [row[0] for row in await self.rows(statement, parameters)]


class Groups:
    """Rows in the order of their first column, one value of it after the other."""

    def __init__(self, cursor: Any, page: int) -> None:
        """Take asyncpg's cursor, and how many rows are read at once."""
        self._cursor = cursor
        self._page = page
        self._read: deque[Row] = deque()

    async def of(self, value: int) -> list[Row]:
        """Return the rows of a value, which come next, if there are any."""
        rows: list[Row] = []
        while self._read or await self._has_more():
            if self._read[0][0] != value:
                break
            rows.append(self._read.popleft())
        return rows

    async def _has_more(self) -> bool:
        self._read.extend(await self._cursor.fetch(self._page))
        return bool(self._read)


def _asked(statement: Statement, parameters: Mapping[str, Any] | None) -> tuple[str, list[Any]]:
    """Return a statement as the driver takes it, and its arguments."""
    compiled = _compiled(statement)
    values = compiled.construct_params(parameters)
    return compiled.string, [values[name] for name in compiled.positiontup or ()]


@lru_cache(maxsize=256)  # far more statements than there are
def _compiled(statement: Statement) -> "SQLCompiler":
    compiled = statement.compile(dialect=_DIALECT)
    if "POSTCOMPILE" in compiled.string:
        raise TypeError(f"a list of values cannot be asked for by IN; use among(): {compiled}")
    return compiled
