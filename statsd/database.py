"""PostgreSQL, read only: the engine, and snapshots."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, cast

import asyncpg
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from statsd import schema
from statsd.errors import MissingTableError, SettingsError
from statsd.outage import brief, sqlstate
from statsd.registry import Lookup
from statsd.urls import connect_arguments

POOL_TIMEOUT = 10.0  # seconds to wait for a connection of the pool
CONNECT_TIMEOUT = 10.0  # seconds
CLOSE_TIMEOUT = 2.0  # seconds
ANSWER_MARGIN = 5.0  # seconds that an answer may take beyond the statement's own timeout

CUSTOM, GENERIC = "force_custom_plan", "force_generic_plan"
UNDEFINED_TABLE, UNDEFINED_COLUMN = "42P01", "42703"


class Database:
    """The primary, through a pool. Every transaction is REPEATABLE READ, READ ONLY."""

    def __init__(
        self, url: str, *, pool_size: int, statement_timeout: float, prepared_statements: bool
    ) -> None:
        """Make the pool; no connection is opened yet. `statement_timeout` is in seconds."""
        address, options = connect_arguments(make_url(url))
        options.setdefault("timeout", CONNECT_TIMEOUT)
        # The server ends what takes too long; a server or a network that is dumb cannot.
        options.setdefault("command_timeout", statement_timeout + ANSWER_MARGIN)
        if not prepared_statements:
            options |= {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
        self._prepared_statements = prepared_statements
        self.engine: AsyncEngine = create_async_engine(
            address,
            connect_args=options,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT,
            isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True},
            hide_parameters=True,
        )
        # For this transaction only: a pooler hands the connection to others, and refuses the
        # same as startup parameters. Compiling these statements costs more than it saves.
        self._local = {
            plan: sa.select(
                sa.func.set_config("statement_timeout", str(int(statement_timeout * 1000)), True),
                sa.func.set_config("jit", "off", True),
                sa.func.set_config("plan_cache_mode", plan, True),
            )
            for plan in (CUSTOM, GENERIC)
        }

    @asynccontextmanager
    async def snapshot(self, *, plan: str = CUSTOM) -> AsyncIterator[AsyncConnection]:
        """Open one snapshot: all statements in it see the database at the same moment.

        `plan` is CUSTOM where what is asked for decides how it is found best, and GENERIC where an
        index does in any case: then planning would take longer than finding.
        """
        async with self.engine.connect() as connection:
            await connection.execute(self._local[plan])
            yield connection

    @asynccontextmanager
    async def lookup(self, turn: Callable[[], None]) -> AsyncIterator[Lookup]:
        """Give handlers a snapshot that is opened only if they look something up.

        `turn` is called before each statement: the work goes on.
        """
        async with AsyncExitStack() as stack:
            yield _Lookup(self, stack, turn)

    async def check(self) -> None:
        """Fail unless the server answers and has the tables with the columns we read.

        Raises SettingsError where prepared statements are on and the pooler in front of
        PostgreSQL loses them.
        """
        async with self.engine.connect() as connection:
            for table in schema.metadata.sorted_tables:
                await self._check_table(connection, table)
        if self._prepared_statements:
            await self._check_prepared_statements()

    async def _check_table(self, connection: AsyncConnection, table: sa.Table) -> None:
        try:
            await connection.execute(sa.select(*table.columns).limit(0))
        except sa.exc.ProgrammingError as error:
            if sqlstate(error) in {UNDEFINED_TABLE, UNDEFINED_COLUMN}:
                columns = ", ".join(column.name for column in table.columns)
                raise MissingTableError(
                    f"{brief(error)}; wanted: table {table.name} with {columns}"
                ) from error
            raise

    async def _check_prepared_statements(self) -> None:
        """Prepare one name through two connections, one transaction after the other.

        A pooler in transaction mode runs both on the same server connection, which knows the
        name already unless the pooler keeps track.
        """
        name = f"statsd_{uuid.uuid4().hex}"
        async with self.engine.connect() as first, self.engine.connect() as second:
            for connection in (first, second):
                await connection.execute(sa.select(1))  # opens the transaction
                raw = await connection.get_raw_connection()
                driver = cast("asyncpg.Connection", raw.driver_connection)
                try:
                    await driver.prepare("SELECT 1", name=name)
                except asyncpg.DuplicatePreparedStatementError as error:
                    raise SettingsError(NEEDS_UNPREPARED) from error
                await connection.rollback()

    async def close(self) -> None:
        """Close the pool; a server that does not answer is not waited for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.engine.dispose()


NEEDS_UNPREPARED = (
    "DATABASE_URL leads to a pooler in transaction mode that does not keep prepared statements "
    "(pgbouncer before 1.21, or max_prepared_statements = 0): set STATSD_PREPARED_STATEMENTS=0"
)


class _Lookup:
    """A handler's view of the database: a snapshot, opened when something is looked up."""

    def __init__(self, database: Database, stack: AsyncExitStack, turn: Callable[[], None]) -> None:
        self._database = database
        self._stack = stack
        self._turn = turn
        self._connection: AsyncConnection | None = None

    async def rows(
        self, statement: sa.Select[Any], parameters: Mapping[str, Any]
    ) -> Sequence[sa.Row[Any]]:
        """Return the statement's rows."""
        self._turn()
        if self._connection is None:
            snapshot = self._database.snapshot(plan=GENERIC)
            self._connection = await self._stack.enter_async_context(snapshot)
        return await rows(self._connection, statement, parameters)


async def rows(
    connection: AsyncConnection, statement: sa.Select[Any], parameters: Mapping[str, Any]
) -> Sequence[sa.Row[Any]]:
    """Return a statement's rows."""
    return list((await connection.execute(statement, parameters)).all())
