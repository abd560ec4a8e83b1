"""Outages: their errors, waiting for a server, and brief texts of errors."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import pytest
import redis
import sqlalchemy.exc
import uvloop
from redis import Redis
from redis._parsers import BaseParser
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from statsd.errors import InvalidEventError, SettingsError, StatsdError, UnfitServerError
from statsd.servers import outages
from statsd.servers.errors import brief, is_outage, sqlstate
from statsd.servers.outages import OutageWaiter, pause_unless, wait_for
from tests.support.processes import DEADLINE

driver = PGDialect_asyncpg.import_dbapi()  # type: ignore[no-untyped-call]


def wrapped(error: asyncpg.PostgresError, *, invalidated: bool = False) -> Exception:
    """Return an error of asyncpg as SQLAlchemy raises it."""
    adapted = driver.OperationalError(f"{type(error)}: {error}", error)
    return sqlalchemy.exc.OperationalError(
        "SELECT 1", {}, adapted, connection_invalidated=invalidated
    )


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def answered(text: str) -> Exception:
    """Return the error that the client raises for this reply of Redis."""
    error = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]
    assert isinstance(error, redis.RedisError)
    return error


def in_pipeline(text: str) -> Exception:
    """Return the error of a reply as a pipeline raises it."""
    error = answered(text)
    command = ["EVALSHA", "BUSY of pipeline caused error: x"]
    Redis().pipeline().annotate_exception(error, 1, command)  # type: ignore[no-untyped-call]
    return error


def closed() -> Exception:
    adapted = driver.InterfaceError("connection is closed")
    return sqlalchemy.exc.InterfaceError("SELECT 1", {}, adapted, connection_invalidated=True)


def written_to_a_closed_connection() -> Exception:
    """Return the error that uvloop raises."""

    async def write() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            transport.abort()
            await asyncio.sleep(0)
            transport.writelines([b"PING"])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(write())
        except RuntimeError as error:
            return error
    raise AssertionError("the write succeeded")


OUTAGES = [
    written_to_a_closed_connection(),
    redis.ConnectionError("Connection refused"),
    redis.TimeoutError("Timeout reading from socket"),
    redis.BusyLoadingError("Redis is loading the dataset in memory"),
    redis.AuthenticationError("WRONGPASS"),
    ReadOnlyError("You can't write against a read only replica."),
    OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    answered("NOGROUP No such key 'stat:events' or consumer group 'stats-workers'"),
    answered("UNBLOCKED the stream key no longer exists"),
    answered("LOADING Redis is loading the dataset in memory"),
    answered("READONLY You can't write against a read only replica."),
    answered("OOM command not allowed when used memory > 'maxmemory'."),
    answered("MISCONF Redis is configured to save RDB snapshots, but is unable to persist"),
    answered("BUSY Redis is busy running a script."),
    answered("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
    answered("NOREPLICAS Not enough good replicas to write."),
    answered("ERR max number of clients reached"),
    answered("NOPERM this user has no permissions to run the 'eval' command"),
    answered(
        "ERR ACL failure in script: User statsd has no permissions to run the 'xgroup|create'"
    ),
    answered("ERR The user executing the script can't run this command or subcommand script: 1"),
    answered("TRYAGAIN Multiple keys request during rehashing of slot"),
    answered("CLUSTERDOWN Hash slot not served"),
    answered("MOVED 1234 127.0.0.1:6381"),
    redis.InvalidResponse("Protocol Error: b'HTTP/1.1 400 Bad Request'"),
    *(
        in_pipeline(reply)
        for reply in (
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL",
            "LOADING Redis is loading the dataset in memory",
            "MASTERDOWN Link with MASTER is down",
            "TRYAGAIN Multiple keys request",
            "MISCONF Redis is configured to save RDB snapshots",
            "NOREPLICAS Not enough good replicas to write.",
            "NOGROUP No such key",
            "NOPERM No permissions to access a key",
            "READONLY You can't write against a read only replica.",
        )
    ),
    ConnectionRefusedError(111, "Connect call failed"),
    ConnectionResetError(),
    BrokenPipeError(),
    OSError("no such host"),
    TimeoutError(),
    sqlalchemy.exc.TimeoutError("QueuePool limit reached"),
    closed(),
    UnfitServerError(),
    caused(UnfitServerError(), wrapped(asyncpg.UndefinedTableError("no such table"))),
    *(
        form(error("gone"))
        for form in (wrapped, lambda error: error)
        for error in (
            asyncpg.ConnectionDoesNotExistError,  # 08003
            asyncpg.ConnectionFailureError,  # 08006
            asyncpg.ProtocolViolationError,  # 08P01
            asyncpg.TooManyConnectionsError,  # 53300
            asyncpg.AdminShutdownError,  # 57P01
            asyncpg.CrashShutdownError,  # 57P02
            asyncpg.CannotConnectNowError,  # 57P03
            asyncpg.InvalidCatalogNameError,  # 3D000
            asyncpg.InvalidPasswordError,  # 28P01
            asyncpg.InvalidAuthorizationSpecificationError,  # 28000
            asyncpg.InsufficientPrivilegeError,  # 42501
        )
    ),
    wrapped(asyncpg.DataError("any error, with the connection lost"), invalidated=True),
]

FAILURES = [
    ValueError("a bug"),
    KeyError("missing"),
    ZeroDivisionError(),
    RuntimeError("connection refused, says the text"),
    AssertionError(),
    StatsdError(),
    InvalidEventError(),
    answered("ERR wrong number of arguments for 'get' command"),
    answered("WRONGTYPE Operation against a key holding the wrong kind of value"),
    answered("ERR it has NOGROUP further on in the text"),
    in_pipeline("ERR unknown command, with args beginning with: BUSY"),
    in_pipeline("WRONGTYPE Operation against a key holding the wrong kind of value"),
    answered("BUSYGROUP Consumer Group name already exists"),
    redis.DataError("Invalid input of type"),
    NoScriptError("No matching script"),
    sqlalchemy.exc.ArgumentError("a bug"),
    sqlalchemy.exc.NoResultFound("no row"),
    *(
        form(error("wrong"))
        for form in (wrapped, lambda error: error)
        for error in (
            asyncpg.UndefinedTableError,  # 42P01
            asyncpg.UndefinedColumnError,  # 42703
            asyncpg.PostgresSyntaxError,  # 42601
            asyncpg.QueryCanceledError,  # 57014: the statement took too long
            asyncpg.DivisionByZeroError,  # 22012
            asyncpg.NumericValueOutOfRangeError,  # 22003
            asyncpg.ReadOnlySQLTransactionError,  # 25006
        )
    ),
    SettingsError(),
    caused(SettingsError("the password is wrong"), redis.AuthenticationError("WRONGPASS")),
    caused(SettingsError("no"), wrapped(asyncpg.InvalidPasswordError("no"))),
    caused(SettingsError("no"), ConnectionRefusedError()),
]


def described(error: BaseException) -> str:
    return f"{type(error).__name__} {sqlstate(error) or ''} {str(error)[:20]!r}"


class Probe:
    """A probe of a server: it fails with each of `errors` in turn, then succeeds."""

    def __init__(self, errors: Sequence[Exception], *, then: Callable[[], object] = int) -> None:
        self.errors = list(errors)
        self.then = then
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        if self.errors:
            error = self.errors.pop(0)
            if not self.errors:
                self.then()
            raise error


class LostServerProbe:
    """A probe of a server that never answers; `called` is set at the first call."""

    def __init__(self) -> None:
        self.called = asyncio.Event()

    async def __call__(self) -> None:
        self.called.set()
        raise redis.ConnectionError


@pytest.mark.parametrize("error", OUTAGES, ids=described)
def test_errors_of_an_unavailable_server_are_outages(error: Exception) -> None:
    assert is_outage(error)


@pytest.mark.parametrize("error", FAILURES, ids=described)
def test_permanent_errors_are_no_outages(error: Exception) -> None:
    assert not is_outage(error)


def test_a_cancellation_is_no_outage() -> None:
    assert not is_outage(asyncio.CancelledError())


def test_the_sqlstate_is_found_in_wrapped_errors() -> None:
    error = asyncpg.CannotConnectNowError("starting up")
    assert sqlstate(error) == "57P03"
    assert sqlstate(wrapped(error)) == "57P03"
    assert sqlstate(caused(RuntimeError(), error)) == "57P03"
    assert sqlstate(caused(RuntimeError(), wrapped(error))) == "57P03"
    bare = caused(driver.OperationalError("without a state of its own"), error)
    assert sqlstate(sqlalchemy.exc.OperationalError("SELECT 1", {}, bare)) == "57P03"


@pytest.mark.parametrize("error", [None, ValueError(), redis.ConnectionError(), OSError()])
def test_other_errors_have_no_sqlstate(error: Exception | None) -> None:
    assert sqlstate(error) is None


async def test_waiting_ends_at_once_if_the_server_answers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    probe = Probe([])
    with caplog.at_level(logging.INFO):
        await wait_for("Redis", probe, asyncio.Event())
    assert probe.calls == 1
    assert not caplog.records


async def test_an_outage_and_its_end_are_logged_once_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    probe = Probe([redis.ConnectionError("refused"), ConnectionResetError()])
    with caplog.at_level(logging.INFO):
        await wait_for("Redis", probe, asyncio.Event())
    assert probe.calls == 3
    assert [(logged.levelname, logged.getMessage()) for logged in caplog.records] == [
        ("WARNING", "waiting for Redis"),
        ("INFO", "Redis is back"),
    ]
    assert vars(caplog.records[0])["error"] == "ConnectionError: refused"
    assert vars(caplog.records[0])["server"] == "Redis"


async def test_waiting_ends_when_the_daemon_stops() -> None:
    stopping = asyncio.Event()
    probe = Probe([redis.ConnectionError()] * 2, then=stopping.set)
    await wait_for("Redis", probe, stopping)
    assert probe.calls == 2


async def test_a_stop_interrupts_the_pause_between_two_probes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outages, "PAUSE", (3600.0, 3600.0))
    stopping, server = asyncio.Event(), LostServerProbe()
    waiting = asyncio.create_task(wait_for("Redis", server, stopping))
    await server.called.wait()
    stopping.set()
    await asyncio.wait_for(waiting, DEADLINE)


async def test_a_stopping_daemon_does_not_probe_the_server() -> None:
    stopping = asyncio.Event()
    stopping.set()
    probe = Probe([redis.ConnectionError()])
    await wait_for("Redis", probe, stopping)
    assert probe.calls == 0


@pytest.mark.parametrize("before", [[], [redis.ConnectionError()]])
async def test_errors_other_than_outages_are_raised(before: list[Exception]) -> None:
    mistake = SettingsError("the password is wrong")
    with pytest.raises(SettingsError) as raised:
        await wait_for("Redis", Probe([*before, mistake]), asyncio.Event())
    assert raised.value is mistake


async def test_a_pause_ends_after_its_seconds_or_at_the_stop() -> None:
    stopping = asyncio.Event()
    await pause_unless(stopping, 0.001)
    stopping.set()
    await asyncio.wait_for(pause_unless(stopping, None), DEADLINE)


async def test_loops_waiting_at_the_same_time_probe_each_server_once() -> None:
    redis_probe, postgres_probe = Probe([]), Probe([])
    servers = OutageWaiter({"Redis": redis_probe, "PostgreSQL": postgres_probe}, asyncio.Event())
    assert not servers.waiting
    await asyncio.gather(*(servers.wait() for _ in range(5)))
    assert (redis_probe.calls, postgres_probe.calls) == (1, 1)
    assert not servers.waiting
    await servers.wait()
    assert (redis_probe.calls, postgres_probe.calls) == (2, 2)


async def test_the_waiter_shows_whether_it_is_waiting() -> None:
    stopping, server = asyncio.Event(), LostServerProbe()
    servers = OutageWaiter({"Redis": server}, stopping)
    waiting = asyncio.create_task(servers.wait())
    await server.called.wait()
    assert servers.waiting
    stopping.set()
    await waiting
    assert not servers.waiting


async def test_a_cancelled_loop_does_not_end_the_waiting_of_others() -> None:
    stopping, server = asyncio.Event(), LostServerProbe()
    servers = OutageWaiter({"Redis": server}, stopping)
    first, second = (asyncio.create_task(servers.wait()) for _ in range(2))
    await server.called.wait()
    first.cancel()
    await asyncio.wait([first])
    assert servers.waiting
    stopping.set()
    await second


async def test_an_error_that_is_no_outage_reaches_all_waiting_loops() -> None:
    def fail() -> Awaitable[object]:
        raise ValueError("a bug")

    servers = OutageWaiter({"Redis": fail}, asyncio.Event())
    results = await asyncio.gather(*(servers.wait() for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 3


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("wrong"), "ValueError: wrong"),
        (ValueError(), "ValueError: "),
        (ValueError("first\nsecond"), "ValueError: first"),
        (KeyError("name"), "KeyError: 'name'"),
        (TimeoutError(), "TimeoutError: "),
        (ConnectionRefusedError(111, "refused"), "ConnectionRefusedError: [Errno 111] refused"),
    ],
    ids=repr,
)
def test_a_brief_error_has_the_class_and_the_first_line(error: Exception, line: str) -> None:
    assert brief(error) == line


def test_a_brief_error_omits_the_statement_that_sqlalchemy_adds() -> None:
    text = brief(wrapped(asyncpg.UndefinedTableError('relation "dojos" does not exist')))
    assert 'relation "dojos" does not exist' in text
    assert "SELECT" not in text
    assert "sqlalche.me" not in text


def test_a_brief_error_is_never_long() -> None:
    assert len(brief(ValueError("x" * 100_000))) < 400
