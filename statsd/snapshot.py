"""Snapshots: transactions whose statements all see the database at the same moment.

Statements are built with SQLAlchemy, compiled once, and asked through asyncpg as they are: most
of them take less time than an engine takes to execute them.
"""

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
        compiled = _compiled(statement)
        values = compiled.construct_params(parameters)
        arguments = [values[name] for name in compiled.positiontup or ()]
        rows: list[Row] = await self._connection.fetch(
            compiled.string, *arguments, record_class=Row
        )
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
