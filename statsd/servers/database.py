"""PostgreSQL, read only: the engine, and snapshots."""

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from statsd import schema
from statsd.errors import MissingTableError, SettingsError
from statsd.servers.outages import brief, sqlstate
from statsd.servers.snapshot import Row, Snapshot, Statement
from statsd.urls import connect_arguments

if TYPE_CHECKING:
    from sqlalchemy.pool import PoolProxiedConnection

POOL_TIMEOUT = 10.0  # seconds to wait for a connection of the pool
CONNECT_TIMEOUT = 10.0  # seconds
CLOSE_TIMEOUT = 2.0  # seconds
ANSWER_MARGIN = 5.0  # seconds that an answer may take beyond the statement's own timeout

UNAIDED = "; SET LOCAL max_parallel_workers_per_gather = 0"
OWN = "is_own"  # of a pooled connection: whether no pooler stands between
CUSTOM, GENERIC = "force_custom_plan", "force_generic_plan"
UNDEFINED_TABLE, UNDEFINED_COLUMN = "42P01", "42703"
# A migration has changed what a connection has prepared.
OUT_OF_DATE = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)


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
        # Of the connection, and not of each statement: asyncpg, which asks a statement that a
        # migration has outdated once more by itself, forgets it then.
        options["record_class"] = Row
        if not prepared_statements:
            options["statement_cache_size"] = 0
        self._prepared_statements = prepared_statements
        self.server_version = ""
        """PostgreSQL's, once it was checked."""
        self._migrated = -math.inf
        self._engine = create_async_engine(
            address,
            connect_args=options,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT,
            pool_use_lifo=True,
        )
        # For this transaction only: a pooler hands the connection to others, and refuses the
        # same as startup parameters. Compiling these statements costs more than it saves.
        timeout = f"statement_timeout = {int(statement_timeout * 1000)}"
        self._begin = {
            plan: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
            f" SET LOCAL {timeout};"
            f" SET LOCAL jit = off; SET LOCAL plan_cache_mode = {plan}"
            for plan in (CUSTOM, GENERIC)
        }
        # The same for a connection that is ours alone, and for statements outside transactions.
        self._own = (
            "SET default_transaction_isolation = 'repeatable read';"
            " SET default_transaction_read_only = on;"
            f" SET {timeout}; SET jit = off; SET plan_cache_mode = {GENERIC}"
        )

    @asynccontextmanager
    async def snapshot(
        self, *, plan: str = CUSTOM, considerate: bool = False
    ) -> AsyncIterator[Snapshot]:
        """Open one snapshot: all statements in it see the database at the same moment.

        `plan` is CUSTOM where what is asked for decides how it is found best, and GENERIC where an
        index does in any case: then planning would take longer than finding. `considerate`: no
        statement has parallel workers.
        """
        async with self._lent() as pooled:
            connection = _driver(pooled)
            await connection.execute(self._begin[plan] + (UNAIDED if considerate else ""))
            yield Snapshot(connection)

    async def alone(
        self, statement: Statement, parameters: Mapping[str, Any] | None = None
    ) -> list[Row]:
        """Return the rows of one statement, which has a snapshot of its own; its plan is GENERIC.

        It needs no BEGIN and no ROLLBACK, whose way takes as long as the statement, unless the
        connection is shared through a pooler.
        """
        async with self._lent() as pooled:
            connection = _driver(pooled)
            if not pooled.info[OWN]:
                await connection.execute(self._begin[GENERIC])
            return await Snapshot(connection).rows(statement, parameters)

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator["PoolProxiedConnection"]:
        """Lend a connection, and end whatever transaction is open on it then.

        Raises ConnectionError where the connection is at fault and not what was asked: another
        one will do.
        """
        pooled = await self._check_out()
        connection = _driver(pooled)
        try:
            if OWN not in pooled.info:
                pooled.info[OWN] = await self._take_over(connection)
            yield pooled
            if connection.is_in_transaction():
                await connection.execute("ROLLBACK")
        except BaseException as error:
            is_lost = _is_lost(error, connection)
            is_outdated = isinstance(error, OUT_OF_DATE)
            if is_outdated:
                self._migrated = monotonic()
            if is_lost or is_outdated or not isinstance(error, asyncpg.PostgresError):
                await _close(pooled)  # whatever it is in the middle of
            else:
                await _roll_back(pooled)  # the server has answered, and goes on
            if is_lost or is_outdated:
                raise ConnectionError(brief(error)) from error
            raise
        pooled.close()

    async def _check_out(self) -> "PoolProxiedConnection":
        """Take a connection from the pool that is open, and that knows the tables as they are."""
        while True:
            pooled = await self._engine.raw_connection()
            since = pooled.info.setdefault("since", monotonic())
            if since >= self._migrated and not _driver(pooled).is_closed():
                return pooled
            pooled.invalidate()

    async def _take_over(self, connection: "asyncpg.Connection") -> bool:
        """Set a new connection up, if it is ours alone; say whether it is.

        Where a pooler stands between, the server's process is another than the one that the client
        was told of.
        """
        await connection.execute("BEGIN")  # in which a pooler keeps to one server connection
        process = await connection.prepare("SELECT pg_backend_pid()", name="")
        is_own: bool = await process.fetchval() == connection.get_server_pid()
        if is_own:
            await connection.execute(self._own)
        await connection.execute("COMMIT")
        return is_own

    def lookup(self, turn: Callable[[], None]) -> "DatabaseLookup":
        """Give handlers what answers their statements.

        `turn` is called before each: the work goes on.
        """
        return DatabaseLookup(self, turn)

    @property
    def pool_in_use(self) -> int:
        """How many connections are lent."""
        return int(self._engine.pool.checkedout())  # type: ignore[attr-defined]

    async def ping(self) -> None:
        """Fail unless the server answers, whatever it has."""
        async with self._lent() as pooled:
            await _driver(pooled).execute("SELECT 1")

    async def check(self) -> None:
        """Fail unless the server answers and has the tables with the columns we read.

        Raises SettingsError where prepared statements are on and the pooler in front of
        PostgreSQL loses them.
        """
        async with self.snapshot() as snapshot:
            for table, probe in _PROBES.items():
                await _check_table(snapshot, table, probe)
            [self.server_version] = await snapshot.scalars(_VERSION)
        if self._prepared_statements:
            await self.check_prepared_statements()

    async def check_prepared_statements(self) -> None:
        """Prepare one name through two connections, one transaction after the other.

        A pooler in transaction mode runs both on the same server connection, which knows the
        name already unless the pooler keeps track. Raises SettingsError then.
        """
        name = f"statsd_{uuid.uuid4().hex}"
        async with self._lent() as first, self._lent() as second:
            for connection in map(_driver, (first, second)):
                await connection.execute("BEGIN")
                try:
                    await connection.prepare("SELECT 1", name=name)
                except asyncpg.DuplicatePreparedStatementError as error:
                    raise SettingsError(NEEDS_UNPREPARED) from error
                await connection.execute("ROLLBACK")

    async def close(self) -> None:
        """Close the pool; a server that does not answer is not waited for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._engine.dispose()


NEEDS_UNPREPARED = (
    "DATABASE_URL leads to a pooler in transaction mode that does not keep prepared statements "
    "(pgbouncer before 1.21, or max_prepared_statements = 0): set STATSD_PREPARED_STATEMENTS=0"
)


class DatabaseLookup:
    """A handler's view of the database, as it is when something is looked up."""

    def __init__(self, database: Database, turn: Callable[[], None]) -> None:
        self._database = database
        self._turn = turn

    async def rows(self, statement: sa.Select[Any], parameters: Mapping[str, Any]) -> Sequence[Row]:
        """Return the statement's rows."""
        self._turn()
        return await self._database.alone(statement, parameters)


def _driver(pooled: "PoolProxiedConnection") -> "asyncpg.Connection":
    return cast("asyncpg.Connection", pooled.driver_connection)


def _is_lost(error: BaseException, connection: "asyncpg.Connection") -> bool:
    """Say whether the connection was at fault, which may not have seen its end yet."""
    return isinstance(error, asyncpg.InternalClientError) or (
        isinstance(error, asyncpg.InterfaceError) and connection.is_closed()
    )


async def _roll_back(pooled: "PoolProxiedConnection") -> None:
    """End a transaction that failed, and give its connection back."""
    try:
        await _driver(pooled).execute("ROLLBACK", timeout=CLOSE_TIMEOUT)
    except BaseException as error:
        await _close(pooled)
        if not isinstance(error, Exception):
            raise
    else:
        pooled.close()


async def _close(pooled: "PoolProxiedConnection") -> None:
    """Close a connection, so that another one takes its place in the pool."""
    try:
        # That cancels what the server is still at; a server that is gone is not waited for.
        await asyncio.shield(_driver(pooled).close(timeout=CLOSE_TIMEOUT))
    except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError):
        pass
    finally:
        pooled.invalidate()


_VERSION = sa.select(sa.func.current_setting("server_version"))
_PROBES = {table: sa.select(*table.columns).limit(0) for table in schema.metadata.sorted_tables}


async def _check_table(snapshot: Snapshot, table: sa.Table, probe: sa.Select[Any]) -> None:
    try:
        await snapshot.rows(probe)
    except asyncpg.PostgresError as error:
        if sqlstate(error) in {UNDEFINED_TABLE, UNDEFINED_COLUMN}:
            columns = ", ".join(column.name for column in table.columns)
            raise MissingTableError(
                f"{brief(error)}; wanted: table {table.name} with {columns}"
            ) from error
        raise
