"""Snapshots: transactions whose statements all see the database at the same moment.

Statements are built with SQLAlchemy, compiled once, and asked through asyncpg as they are: most
of them take less time than an engine takes to execute them.
"""

from collections.abc import Mapping, Sequence
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

    def __init__(self, connection: "asyncpg.Connection", *, page: int = 0) -> None:
        """Take a connection, in its transaction, and how many rows are read at once; 0: all."""
        self._connection = connection
        self._page = page

    async def rows(
        self, statement: Statement, parameters: Mapping[str, Any] | None = None
    ) -> list[Row]:
        """Return a statement's rows."""
        compiled = _compiled(statement)
        values = compiled.construct_params(parameters)
        arguments = [values[name] for name in compiled.positiontup or ()]
        if self._page:
            return await self._paged(compiled.string, arguments)
        rows: list[Row] = await self._connection.fetch(
            compiled.string, *arguments, record_class=Row
        )
        return rows

    async def _paged(self, statement: str, arguments: Sequence[Any]) -> list[Row]:
        """Read page by page, so that the loop does not turn rows into objects all the time."""
        # Without a name, which behind a pooler might be another one's statement by the next use.
        prepared = await self._connection.prepare(statement, name="", record_class=Row)
        cursor = await prepared.cursor(*arguments)
        rows: list[Row] = []
        while page := await cursor.fetch(self._page):
            rows += page
        return rows

    async def scalars(
        self, statement: Statement, parameters: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """Return the first column of a statement's rows."""
        return [row[0] for row in await self.rows(statement, parameters)]


@lru_cache(maxsize=256)  # far more statements than there are
def _compiled(statement: Statement) -> "SQLCompiler":
    compiled = statement.compile(dialect=_DIALECT)
    if "POSTCOMPILE" in compiled.string:
        raise TypeError(f"a list of values cannot be asked for by IN; use among(): {compiled}")
    return compiled
