"""PostgreSQL, read only: a pool of connections, and snapshots on them."""

import asyncio
import socket
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from math import inf
from time import monotonic
from typing import Any

import asyncpg
import sqlalchemy as sa

from statsd.addresses import postgres
from statsd.addresses.redis_clients import keepalive_options
from statsd.errors import UnfitServerError
from statsd.servers import postgres_fitness
from statsd.servers.errors import brief, is_denied, is_outage
from statsd.servers.finding import Finding, demand, unfit
from statsd.servers.snapshot import Row, Snapshot, Statement

POOL_TIMEOUT = 10.0  # seconds to wait for a free connection of the pool
CONNECT_TIMEOUT = 10.0  # seconds
CLOSE_TIMEOUT = 2.0  # seconds
ANSWER_MARGIN = 5.0  # seconds that an answer may take beyond the statement's own timeout
IDLE = 5.0  # seconds after which a connection is pinged before it is used
PING_TIMEOUT = 1.0  # seconds
LONGEST_PAUSE = 300_000  # milliseconds between two statements of a transaction
LONGEST_TRANSACTION = 3_600_000  # milliseconds
HAS_TRANSACTION_TIMEOUT = 17  # the first version

WITHOUT_WORKERS = "; SET LOCAL max_parallel_workers_per_gather = 0"
CUSTOM, GENERIC = "force_custom_plan", "force_generic_plan"
IN_RECOVERY = "SELECT pg_is_in_recovery()"
REJECTED = "rejected SSL upgrade"  # the words of asyncpg
# A migration has changed the result of a statement that the connection has prepared.
OUT_OF_DATE = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)


class _Connection(asyncpg.Connection):  # type: ignore[misc] # asyncpg has no types
    """A connection of the pool."""

    is_own = False
    """Whether no pooler stands between, so that its settings last."""
    used_at = 0.0
    """When it was last opened, or given back (monotonic)."""

    @property
    def itself(self) -> "_Connection":
        """The connection without the pool's proxy."""
        return self

    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's
        """End the open transaction, if there is one. The pool calls this on each return.

        The settings stay: all users of the pool need the same.
        """
        if self.is_in_transaction():
            await self.execute("ROLLBACK", timeout=timeout)


class Database:
    """The primary, through a pool. Every transaction is REPEATABLE READ, READ ONLY."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int,
        statement_timeout: float,
        prepared_statements: bool,
        any_role: bool = False,
    ) -> None:
        """Make the pool; no connection is opened yet. `statement_timeout` is in seconds.

        It belongs to the running event loop. A standby is refused, unless it may have `any_role`.
        """
        self._any_role = any_role
        self._address = postgres.parse(url)
        options: dict[str, Any] = {
            "timeout": CONNECT_TIMEOUT,
            # The server ends statements that take too long; a server that hangs cannot.
            "command_timeout": statement_timeout + ANSWER_MARGIN,
            # Of the connection, and not of each statement: when asyncpg repeats a statement that
            # a migration has outdated, it drops the statement's own record class.
            "record_class": Row,
            **self._address.options,
        }
        if not prepared_statements:
            options["statement_cache_size"] = 0
        self._prepared_statements = prepared_statements
        self.server_version = ""
        """The version of PostgreSQL, as of the newest connection."""
        self._connect_timeout = float(options["timeout"])
        self._acquire_timeout = POOL_TIMEOUT + self._connect_timeout
        self._pool = asyncpg.create_pool(
            min_size=0,
            max_size=pool_size,
            max_queries=inf,
            max_inactive_connection_lifetime=0,
            connection_class=_Connection,
            connect=self._connect,
            init=self._set_up,
            **options,
        )
        timeout = f"statement_timeout = {int(statement_timeout * 1000)}"
        self._begin = {plan: _begin(timeout, plan) for plan in (CUSTOM, GENERIC)}
        # The same for statements outside transactions, on a connection without a pooler.
        self._session_settings = (
            "SET default_transaction_isolation = 'repeatable read';"
            " SET default_transaction_read_only = on;"
            f" SET {timeout}; SET jit = off; SET plan_cache_mode = {GENERIC}"
        )

    async def _connect(self, *arguments: Any, **options: Any) -> Any:
        """Connect, with each encryption that the address allows, until the server takes one."""
        *before, last = self._address.encryption
        for encryption in before:
            try:
                return await asyncpg.connect(*arguments, ssl=encryption, **options)
            except _PERHAPS_ENCRYPTION as error:
                # Of several hosts, the error is that of the last one.
                if len(self._address.options["host"]) == 1 and not _is_about_encryption(error):
                    raise
        return await asyncpg.connect(*arguments, ssl=last, **options)

    @asynccontextmanager
    async def snapshot(
        self, *, plan: str = CUSTOM, considerate: bool = False
    ) -> AsyncIterator[Snapshot]:
        """Open one snapshot: all statements in it see the database at the same moment.

        `plan` is CUSTOM where the best plan depends on the parameters, and GENERIC where an index
        serves all of them: then planning would take longer than reading. `considerate` statements
        use no parallel workers.
        """
        async with self._connection() as connection:
            await self._begin_on(connection, plan, WITHOUT_WORKERS if considerate else "")
            yield Snapshot(connection)

    async def alone(
        self, statement: Statement, parameters: Mapping[str, Any] | None = None
    ) -> list[Row]:
        """Return the rows of one statement, which has a snapshot of its own; its plan is GENERIC.

        It runs outside a transaction, as BEGIN and ROLLBACK would take longer than the statement.
        Through a pooler it runs in one, because only a transaction can have our settings there.
        """
        async with self._connection() as connection:
            if not connection.is_own:
                await self._begin_on(connection, GENERIC)
            return await Snapshot(connection).rows(statement, parameters)

    async def _begin_on(self, connection: _Connection, plan: str, more: str = "") -> None:
        """Begin a transaction with our settings."""
        if _has_transaction_timeout(connection):
            # A timer that runs is not set anew, but only ended by 0.
            limit = "SET LOCAL transaction_timeout = "
            more += f"; {limit}0; {limit}{LONGEST_TRANSACTION}"
        await connection.execute(self._begin[plan] + more)
        if not connection.is_own:  # a pooler may lead to another server by now
            self._demand_primary(is_standby=await connection.fetchval(IN_RECOVERY))

    def _demand_primary(self, *, is_standby: bool) -> None:
        """Raise UnfitServerError for a standby: it lags, and what it lacks would be missing."""
        if is_standby and not self._any_role:
            raise unfit(postgres_fitness.role(is_standby=True))

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Connection]:
        """Lend a connection; its transaction ends when it is given back.

        Raises ConnectionError if the connection failed and not the statement: the same will
        succeed on another connection.
        """
        pool = await self._pool  # the first use starts it
        lent = await self._acquire(pool)
        connection: _Connection = lent.itself  # the pool's proxy forgets it when it is closed
        try:
            yield connection
            connection.used_at = monotonic()
            await pool.release(lent)
        except BaseException as error:
            connection.used_at = monotonic()
            is_lost = _is_lost(error, connection)
            if isinstance(error, OUT_OF_DATE):
                await pool.expire_connections()
            if is_lost or not isinstance(error, asyncpg.PostgresError):
                await _close(connection)  # its state is unknown
            with suppress(*_CLOSING):
                await pool.release(lent, timeout=CLOSE_TIMEOUT)
            if is_lost:
                raise ConnectionError(brief(error)) from error
            raise

    async def _acquire(self, pool: asyncpg.Pool) -> Any:
        try:
            async with asyncio.timeout(self._acquire_timeout) as limit:
                while True:
                    lent = await pool.acquire()
                    try:
                        if await _answers(lent.itself):
                            return lent
                    except BaseException:
                        lent.itself.terminate()  # which gives it back
                        raise
                    # A firewall drops all connections that are idle as long.
                    await pool.expire_connections()
                    await pool.release(lent)
        except TimeoutError:
            if not limit.expired():
                raise  # of the connection that was opened for this
            seconds = f"{self._acquire_timeout:.0f} s"
            raise TimeoutError(f"no connection of the pool within {seconds}") from None

    async def _set_up(self, connection: _Connection) -> None:
        """Give a new connection our settings, unless it leads to a pooler.

        Behind a pooler, the server process is not the one that the client was told when it
        connected. A server that hangs is given up after the time for connecting.
        """
        self._keep_alive(connection)
        connection.used_at = monotonic()
        self.server_version = connection.get_settings().server_version
        try:
            async with asyncio.timeout(self._connect_timeout):
                await connection.execute("BEGIN")  # a pooler keeps one connection until COMMIT
                about = "SELECT pg_backend_pid(), pg_is_in_recovery()"
                process, is_standby = await (await connection.prepare(about, name="")).fetchrow()
                self._demand_primary(is_standby=is_standby)
                connection.is_own = process == connection.get_server_pid()
                if connection.is_own:
                    await connection.execute(self._session_settings)
                    if _has_transaction_timeout(connection):
                        await connection.execute("SET transaction_timeout = 0")
                await connection.execute("COMMIT")
        except BaseException as error:
            await _close(connection)  # the pool would do so, and wait without a limit
            if isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError)):
                raise ConnectionError(brief(error)) from error  # the server closed it in between
            raise

    def _keep_alive(self, connection: _Connection) -> None:
        """Let the operating system notice a dead connection, as libpq's parameters say."""
        own = {name.removeprefix("keepalives_"): n for name, n in self._address.keepalives.items()}
        if own.pop("keepalives", 1) == 0:
            return
        if "tcp_user_timeout" in own:
            own["user_timeout"] = own.pop("tcp_user_timeout")
        raw = connection._transport.get_extra_info("socket")  # noqa: SLF001 - asyncpg has no option
        if raw is None or raw.family == socket.AF_UNIX:
            return
        options = keepalive_options(**{name: n for name, n in own.items() if n})
        with suppress(OSError):  # it is closed already, which its first use will tell
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in options.items():
                raw.setsockopt(socket.IPPROTO_TCP, option, value)

    def lookup(self, turn: Callable[[], None]) -> "DatabaseLookup":
        """Return the view of the database that handlers get.

        `turn` is called before each statement, as a sign that the work goes on.
        """
        return DatabaseLookup(self, turn)

    @property
    def pool_in_use(self) -> int:
        """How many connections are lent."""
        return int(self._pool.get_size() - self._pool.get_idle_size())

    async def ping(self) -> None:
        """Fail unless the server answers and is the primary; its tables are not looked at."""
        async with self._connection() as connection:
            self._demand_primary(is_standby=await connection.fetchval(IN_RECOVERY))

    async def findings(self) -> list[Finding]:
        """Return what the server is, and whether our tables can be read."""
        async with self.snapshot() as snapshot:
            return [each async for each in postgres_fitness.findings(snapshot)]

    async def check(self) -> None:
        """Fail unless the server can be used: it is the primary, and we can read our tables.

        Raises UnfitServerError where it cannot be used, also where prepared statements are on and
        the pooler in front of PostgreSQL loses them.
        """
        demand(await self.findings())
        if self._prepared_statements:
            await self.check_prepared_statements()

    async def history(self) -> str | None:
        """Return the name of the server's history: its system, and the timeline of its log.

        A promoted standby and a restored server have another one, and may lack commits. None where
        the server does not tell.
        """
        try:
            [name] = await self.alone(_HISTORY)
        except asyncpg.PostgresError as error:
            if is_outage(error) and not is_denied(error):
                raise
            return None
        return None if name[0] is None else str(name[0])

    async def check_prepared_statements(self) -> None:
        """Prepare one name through two connections, one transaction after the other.

        A pooler in transaction mode runs both on the same server connection, which knows the
        name already unless the pooler keeps track. Raises UnfitServerError then.
        """
        name = f"statsd_{uuid.uuid4().hex}"
        async with self._connection() as first, self._connection() as second:
            for connection in (first, second):
                await connection.execute("BEGIN")
                try:
                    await connection.prepare("SELECT 1", name=name)
                except asyncpg.DuplicatePreparedStatementError as error:
                    raise UnfitServerError(*NEEDS_UNPREPARED, is_setting=True) from error
                await connection.execute("ROLLBACK")

    async def close(self) -> None:
        """Close the pool within CLOSE_TIMEOUT, even if the server does not answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await (await self._pool).close()


_HISTORY = sa.text(
    "SELECT CASE WHEN NOT pg_is_in_recovery() THEN"
    " system_identifier || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) END"
    " FROM pg_control_system()"
)
LOSES_PREPARED = "the pooler loses them (pgbouncer before 1.21, or max_prepared_statements = 0)"
NEEDS_UNPREPARED = (
    f"prepared statements: {LOSES_PREPARED}",
    "set STATSD_PREPARED_STATEMENTS=0",
)


class DatabaseLookup:
    """The view of the database that handlers get: each statement sees the present moment."""

    def __init__(self, database: Database, turn: Callable[[], None]) -> None:
        self._database = database
        self._turn = turn

    async def rows(self, statement: sa.Select[Any], parameters: Mapping[str, Any]) -> Sequence[Row]:
        """Return the statement's rows."""
        self._turn()
        return await self._database.alone(statement, parameters)


def _begin(timeout: str, plan: str) -> str:
    """Return the statements that begin a transaction with our settings.

    They are SET LOCAL, as a pooler gives the server connection to other clients afterwards, and
    refuses them as startup parameters. A role may have shorter limits, which would end our longest
    work at each attempt.
    """
    return (
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
        f" SET LOCAL {timeout}; SET LOCAL idle_in_transaction_session_timeout = {LONGEST_PAUSE};"
        f" SET LOCAL jit = off; SET LOCAL plan_cache_mode = {plan}"
    )


def _is_lost(error: BaseException, connection: _Connection) -> bool:
    """Say whether the connection failed and not the statement."""
    return isinstance(error, (asyncpg.InternalClientError, *OUT_OF_DATE)) or (
        isinstance(error, asyncpg.InterfaceError) and connection.is_closed()
    )


_CLOSING = (
    OSError,  # timeouts among them
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresError,
)
"""Errors of a connection that is closed or given back after another error."""


_PERHAPS_ENCRYPTION = (
    OSError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.TargetServerAttributeNotMatched,
)


def _is_about_encryption(error: Exception) -> bool:
    """Say whether another kind of encryption may succeed: what `allow` and `prefer` ask for."""
    is_login = isinstance(error, asyncpg.InvalidAuthorizationSpecificationError)
    return is_login or isinstance(error, ssl.SSLError) or REJECTED in str(error)


def _has_transaction_timeout(connection: _Connection) -> bool:
    return bool(connection.get_server_version().major >= HAS_TRANSACTION_TIMEOUT)


async def _answers(connection: _Connection) -> bool:
    """Say whether a connection that was idle still leads to the server; end it if not."""
    if monotonic() - connection.used_at < IDLE:
        return True
    try:
        async with asyncio.timeout(PING_TIMEOUT):
            await connection.execute("SELECT 1")
    except _CLOSING:
        connection.terminate()
        return False
    return True


async def _close(connection: _Connection) -> None:
    """Close a connection, and have the server cancel its statement."""
    with suppress(*_CLOSING):
        await asyncio.shield(connection.close(timeout=CLOSE_TIMEOUT))
