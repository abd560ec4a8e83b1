"""Snapshots: transactions whose statements all see the database at the same moment.

Statements are built with SQLAlchemy, compiled once, and sent through asyncpg directly: an engine
of SQLAlchemy would take longer to execute most of them than PostgreSQL does.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
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
    """A row; its columns are also attributes."""

    def __getattr__(self, column: str) -> Any:
        """Return the value of a column."""
        try:
            return self[column]
        except KeyError:
            raise AttributeError(f"the row has no column {column!r}") from None


class Snapshot:
    """One snapshot of the database, valid while its transaction is open."""

    def __init__(self, connection: "asyncpg.Connection") -> None:
        """Take a connection that is in a transaction already."""
        self._connection = connection

    async def rows(
        self, statement: Statement, parameters: Mapping[str, Any] | None = None
    ) -> list[Row]:
        """Return the rows of a statement."""
        text, arguments = _text_and_arguments(statement, parameters)
        rows: list[Row] = await self._connection.fetch(text, *arguments)
        return rows

    async def types(self, statement: Statement) -> list[str]:
        """Return the names of the types of a statement's columns; it is not run."""
        text, _ = _text_and_arguments(statement, None)
        prepared = await self._connection.prepare(text, name="")
        return [column.type.name for column in prepared.get_attributes()]

    async def groups(
        self, statement: Statement, parameters: Mapping[str, Any], *, page: int
    ) -> "Groups":
        """Open a cursor on rows that the first column orders; it reads `page` rows at once."""
        text, arguments = _text_and_arguments(statement, parameters)
        # Without a name: behind a pooler, the name may belong to another client's statement.
        prepared = await self._connection.prepare(text, name="")
        return Groups(await prepared.cursor(*arguments), page)

    async def copy(
        self,
        statement: Statement,
        parameters: Mapping[str, Any],
        take: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """Give the rows of a statement to `take`, chunk by chunk, in the binary form of COPY."""
        text, arguments = _text_and_arguments(statement, parameters)
        await self._connection.copy_from_query(text, *arguments, output=take, format="binary")

    async def scalars(
        self, statement: Statement, parameters: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """Return the first column of the rows of a statement."""
        return [row[0] for row in await self.rows(statement, parameters)]


class Groups:
    """Rows that the first column orders, read by groups of one value in that column."""

    def __init__(self, cursor: Any, page: int) -> None:
        """`cursor` is of asyncpg; `page` rows are read at once."""
        self._cursor = cursor
        self._page = page
        self._read: deque[Row] = deque()

    async def of(self, value: int) -> list[Row]:
        """Return the rows of the next group if its value is this one, else none."""
        rows: list[Row] = []
        while self._read or await self._has_more():
            if self._read[0][0] != value:
                break
            rows.append(self._read.popleft())
        return rows

    async def _has_more(self) -> bool:
        self._read.extend(await self._cursor.fetch(self._page))
        return bool(self._read)


def _text_and_arguments(
    statement: Statement, parameters: Mapping[str, Any] | None
) -> tuple[str, list[Any]]:
    """Return the text of a statement in the driver's form, and its arguments in order."""
    compiled = _compiled(statement)
    values = compiled.construct_params(parameters)
    return compiled.string, [values[name] for name in compiled.positiontup or ()]


@lru_cache(maxsize=256)  # there are far fewer statements
def _compiled(statement: Statement) -> "SQLCompiler":
    compiled = statement.compile(dialect=_DIALECT)
    if "POSTCOMPILE" in compiled.string:
        raise TypeError(f"a list of values cannot be a parameter of IN; use among(): {compiled}")
    return compiled
