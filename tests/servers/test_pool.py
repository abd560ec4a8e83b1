"""The pool of connections to PostgreSQL: its size, waits, cancellations and closing."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest
import sqlalchemy as sa

from statsd.servers import database as database_module
from statsd.servers.database import Database
from statsd.servers.errors import is_outage

PROCESS = sa.text("SELECT pg_backend_pid()")


@pytest.fixture
async def pair(database: str) -> AsyncIterator[Database]:
    """A database with two connections in its pool."""
    pair = Database(database, pool_size=2, statement_timeout=2, prepared_statements=True)
    yield pair
    await pair.close()


async def backends(pair: Database, count: int) -> list[int]:
    """Return the server processes of this many snapshots that are open at the same time."""
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(pair.snapshot()) for _ in range(count)]
        return [pid for each in opened for pid in await each.scalars(PROCESS)]


async def test_a_connection_is_opened_only_when_all_others_are_in_use(pair: Database) -> None:
    assert len(set(await backends(pair, 2))) == 2
    used = {pid for _ in range(5) for pid in await backends(pair, 1)}
    assert len(used) == 1


async def test_connections_in_use_are_counted(pair: Database) -> None:
    assert pair.pool_in_use == 0
    async with pair.snapshot():
        assert pair.pool_in_use == 1
        async with pair.snapshot():
            assert pair.pool_in_use == 2
    assert pair.pool_in_use == 0


async def test_the_wait_for_a_free_connection_ends_as_an_outage(pair: Database) -> None:
    pair._acquire_timeout = 0.1
    async with pair.snapshot(), pair.snapshot():
        with pytest.raises(TimeoutError, match="no connection of the pool within") as caught:
            await pair.ping()
    assert is_outage(caught.value)
    await pair.ping()


async def test_a_cancelled_wait_for_a_connection_keeps_its_place_in_the_pool(
    pair: Database,
) -> None:
    async with pair.snapshot(), pair.snapshot():
        waiting = asyncio.create_task(pair.ping())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert len(set(await backends(pair, 2))) == 2


async def test_a_new_connection_that_is_lost_at_once_is_an_outage(
    pair: Database, database: str
) -> None:
    own = database_module._Connection
    connection = await asyncpg.connect(database, connection_class=own)
    await connection.close()
    with pytest.raises(ConnectionError, match="closed"):
        await pair._set_up(connection)


async def test_closing_the_pool_does_not_wait_long_for_a_connection_in_use(
    pair: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "CLOSE_TIMEOUT", 0.1)

    async def close_while_in_use() -> None:
        async with pair.snapshot() as snapshot:
            async with asyncio.timeout(5):
                await pair.close()
            await snapshot.scalars(PROCESS)

    with pytest.raises(ConnectionError):
        await close_while_in_use()


@pytest.mark.parametrize("order", [1, -1])
async def test_the_primary_is_found_beside_a_host_that_is_down(database: str, order: int) -> None:
    """Without TLS, which is tried first; the error is that of the host that is down."""
    url = sa.make_url(database)
    hosts = [f"{url.host}:{url.port}", "127.0.0.1:1"][::order]
    text = f"postgresql://{url.username}@{','.join(hosts)}/{url.database}"
    found = Database(text, pool_size=1, statement_timeout=5, prepared_statements=True)
    await found.ping()
    await found.close()


async def test_a_ping_that_fails_in_any_way_gives_the_connection_back(
    pair: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.ping()
    monkeypatch.setattr(database_module, "IDLE", -1.0)

    async def fail(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("the handler is closed")

    with monkeypatch.context() as patched:
        patched.setattr(asyncpg.Connection, "execute", fail)
        with pytest.raises(RuntimeError):
            await pair.ping()
    assert pair.pool_in_use == 0
    await pair.ping()


async def test_a_history_that_the_server_does_not_tell_is_none(
    pair: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "/" in str(await pair.history())
    for unknown in ("SELECT no_such_function()", "SELECT NULL", "SELECT pg_read_file('x') FROM no"):
        monkeypatch.setattr(database_module, "_HISTORY", sa.text(unknown))
        assert await pair.history() is None


async def test_a_pool_that_was_never_used_can_be_closed(pair: Database) -> None:
    await pair.close()


async def test_a_connection_that_fails_to_open_is_not_reported_as_a_full_pool() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"postgresql://web@127.0.0.1:{port}/web?connect_timeout=1"
        unreachable = Database(url, pool_size=1, statement_timeout=1, prepared_statements=True)
        with pytest.raises(TimeoutError) as caught:
            await unreachable.ping()
        assert "no connection of the pool" not in str(caught.value)
        assert is_outage(caught.value)
        await unreachable.close()


async def test_a_connection_that_the_server_ends_before_the_rollback_is_an_outage(
    pair: Database, engine: sa.Engine
) -> None:
    async def snapshot_that_loses_its_server() -> None:
        async with pair.snapshot() as snapshot:
            [process] = await snapshot.scalars(PROCESS)
            with engine.connect() as other:  # blocks the loop, which learns nothing meanwhile
                terminate = sa.text("SELECT pg_terminate_backend(:process, 10000)")
                assert other.scalar(terminate, {"process": process})

    with pytest.raises((ConnectionError, asyncpg.PostgresError)) as caught:
        await snapshot_that_loses_its_server()
    assert is_outage(caught.value)
    await pair.ping()


async def test_a_server_that_hangs_during_the_setup_is_given_up(database: str) -> None:
    """It has answered the login and nothing more, as a pooler in front of a dead server does."""
    target = sa.make_url(database)
    relays: list[asyncio.StreamWriter] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, down = await asyncio.open_connection(target.host, target.port)
        relays.extend((writer, down))
        back = asyncio.create_task(copy(upstream, writer))
        await copy(reader, down, until=b"BEGIN")
        back.cancel()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = target.set(port=port, query={"connect_timeout": "1"})
    hanging = Database(
        url.render_as_string(hide_password=False),
        pool_size=1,
        statement_timeout=600,
        prepared_statements=True,
    )
    async with asyncio.timeout(60):  # one statement may take 600 s
        with pytest.raises(TimeoutError) as caught:
            await hanging.ping()
    assert is_outage(caught.value)
    await hanging.close()
    for each in relays:
        each.close()
    server.close()


async def copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, until: bytes | None = None
) -> None:
    """Copy what comes, up to a message that contains `until`."""
    while (data := await reader.read(65536)) and not (until and until in data):
        writer.write(data)
