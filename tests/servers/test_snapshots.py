"""Snapshots: their contents, their settings, and connections that are lost or outdated."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import psycopg2
import pytest
import sqlalchemy as sa

from statsd.calculators.counted import among
from statsd.dev import embedded
from statsd.schema import users
from statsd.servers.database import Database
from statsd.servers.errors import is_outage, is_transient
from statsd.servers.snapshot import Snapshot
from tests.support.processes import DEADLINE, eventually
from tests.support.webapp import WebApp

NAMES = sa.select(users.c.id, users.c.name).order_by(users.c.id)
NAMED = sa.select(users.c.name).where(among(users.c.id, "ids")).order_by(users.c.id)
PROCESS = sa.text("SELECT pg_backend_pid()")
SLEEPING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
)
SETTINGS = (
    "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'),"
    " current_setting('statement_timeout'), current_setting('jit'),"
    " current_setting('plan_cache_mode')"
)
OURS = ("repeatable read", "on", "2s", "off", "force_generic_plan")


@pytest.fixture
async def single(database: str) -> AsyncIterator[Database]:
    """A database with one connection in its pool."""
    single = Database(database, pool_size=1, statement_timeout=2, prepared_statements=True)
    yield single
    await single.close()


def change(database: str, statement: str) -> None:
    """Change the database through another connection."""
    connection = psycopg2.connect(database)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


def ask(database: str, statement: str) -> list[tuple[object, ...]]:
    """Read the database through another connection."""
    connection = psycopg2.connect(database)
    with connection.cursor() as cursor:
        cursor.execute(statement)
        found = list(cursor.fetchall())
    connection.close()
    return found


async def backend(snapshot: Snapshot) -> int:
    [pid] = await snapshot.scalars(PROCESS)
    return int(pid)


async def ask_names(snapshot: Snapshot) -> list[tuple[int, str]]:
    return [(row.id, row.name) for row in await snapshot.rows(NAMES)]


async def backend_of(database: Database) -> int:
    async with database.snapshot() as snapshot:
        return await backend(snapshot)


async def test_all_statements_see_the_same_moment(single: Database, webapp: WebApp) -> None:
    first = webapp.create_user()
    async with single.snapshot() as snapshot:
        before = await snapshot.rows(NAMES)
        webapp.create_user()
        assert await snapshot.rows(NAMES) == before
        assert [(row.id, row.name) for row in before] == [(first.id, first.name)]
    async with single.snapshot() as snapshot:
        assert len(await snapshot.rows(NAMES)) == len(before) + 1


async def test_rows_and_parameters(single: Database, webapp: WebApp) -> None:
    made = [webapp.create_user() for _ in range(3)]
    wanted = {"ids": [each.id for each in made[:2]]}
    async with single.snapshot() as snapshot:
        assert await snapshot.scalars(NAMED, wanted) == [each.name for each in made[:2]]
        [row, _] = await snapshot.rows(NAMED, wanted)
        with pytest.raises(AttributeError, match="no column 'email'"):
            _ = row.email
        with pytest.raises(sa.exc.InvalidRequestError, match="ids"):
            await snapshot.rows(NAMED)
        with pytest.raises(TypeError, match="among"):
            await snapshot.rows(NAMES.where(users.c.id.in_([1, 2])))


@pytest.mark.parametrize("page", [1, 2, 3, 100])
async def test_groups_of_rows_do_not_depend_on_the_page_size(single: Database, page: int) -> None:
    """With two cursors in one snapshot, as a job that joins several statements reads them."""
    counts = {1: 3, 3: 1, 4: 5, 9: 2}
    one = sa.select(
        sa.func.unnest(sa.bindparam("values", type_=sa.ARRAY(sa.Integer))).label("value")
    ).order_by("value")
    values = [value for value, count in counts.items() for _ in range(count)]
    async with single.snapshot(considerate=True) as snapshot:
        both = [
            await snapshot.groups(one, {"values": some}, page=page)
            for some in (values[::-1], values[::2])
        ]
        for value in range(11):
            found = [[row.value for row in await groups.of(value)] for groups in both]
            assert found == [[value] * values.count(value), [value] * values[::2].count(value)]


async def test_nothing_can_be_written(single: Database) -> None:
    async with single.snapshot() as snapshot:
        with pytest.raises(Exception, match="read-only"):
            await snapshot.rows(sa.text("CREATE TABLE mine ()"))


async def test_a_statement_alone_has_the_settings_of_a_snapshot(single: Database) -> None:
    [found] = await single.alone(sa.text(SETTINGS))
    assert tuple(found) == OURS
    with pytest.raises(Exception, match="read-only"):
        await single.alone(sa.text("CREATE TABLE mine ()"))
    with pytest.raises(asyncpg.QueryCanceledError):
        await single.alone(sa.text("SELECT pg_sleep(10)"))
    async with single.snapshot() as snapshot:  # with its own plan mode
        [found] = await snapshot.rows(sa.text(SETTINGS))
    assert tuple(found) == (*OURS[:-1], "force_custom_plan")
    [found] = await single.alone(sa.text(SETTINGS))
    assert tuple(found) == OURS


async def test_a_statement_alone_leaves_no_settings_on_the_connection_of_a_pooler(
    pgbouncer: str, database: str
) -> None:
    """The pooler gives the same server connection to the next client."""
    shared = Database(pgbouncer, pool_size=1, statement_timeout=2, prepared_statements=False)
    for _ in range(2):
        [found] = await shared.alone(sa.text(SETTINGS))
        assert tuple(found) == OURS
        [[ours]] = await shared.alone(PROCESS)
        assert ask(pgbouncer, "SELECT pg_backend_pid()") == [(ours,)]
        assert ask(pgbouncer, SETTINGS) == ask(database, SETTINGS)
    await shared.close()


@pytest.mark.parametrize("turns", range(8))
async def test_a_connection_that_the_server_closed_is_replaced(
    single: Database, postgres: embedded.Postgres, turns: int
) -> None:
    """The next use may fail, if the event loop has not noticed the end yet. Later uses succeed."""
    pid = await backend_of(single)
    change(postgres.url, f"SELECT pg_terminate_backend({pid}, 60000)")
    for _ in range(turns):
        await asyncio.sleep(0)
    try:
        await backend_of(single)
    except Exception as error:  # noqa: BLE001 - of any class
        assert is_outage(error)  # noqa: PT017 - there may be none
    assert await backend_of(single) != pid


async def test_a_lost_connection_is_an_outage(
    single: Database, postgres: embedded.Postgres
) -> None:
    async def lose() -> None:
        async with single.snapshot() as snapshot:
            pid = await backend(snapshot)
            lost.append(pid)
            change(postgres.url, f"SELECT pg_terminate_backend({pid}, 60000)")
            while True:
                await backend(snapshot)

    lost: list[int] = []
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is not specified
        await lose()
    assert is_outage(caught.value)
    assert await backend_of(single) not in lost


async def test_a_statement_timeout_leaves_a_usable_connection(single: Database) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is not specified
        async with single.snapshot() as snapshot:
            await snapshot.rows(sa.text("SELECT pg_sleep(30)"))
    assert is_transient(caught.value)
    async with single.snapshot() as snapshot:
        assert await snapshot.scalars(sa.text("SELECT 1")) == [1]


async def test_no_transaction_stays_open_after_an_error_of_the_program(
    single: Database, postgres: embedded.Postgres
) -> None:
    async def fail(error: BaseException) -> int:
        async with single.snapshot() as snapshot:
            pids.append(await backend(snapshot))
            raise error

    def is_there(pid: int) -> bool:
        return bool(ask(postgres.url, f"SELECT FROM pg_stat_activity WHERE pid = {pid}"))

    pids: list[int] = []
    for error in (LookupError("not the database's"), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            await fail(error)
        eventually(lambda: not is_there(pids[-1]), "its server process has ended")
    assert await backend_of(single) not in pids


async def test_a_statement_that_the_server_refuses_keeps_its_connection(
    single: Database, postgres: embedded.Postgres
) -> None:
    pid = await backend_of(single)
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with single.snapshot() as snapshot:
            await snapshot.rows(sa.text("SELECT 1 / 0"))
    [(state,)] = ask(postgres.url, f"SELECT state FROM pg_stat_activity WHERE pid = {pid}")
    assert state == "idle"
    assert await backend_of(single) == pid


async def test_a_wrong_use_of_the_connection_is_no_outage(single: Database) -> None:
    async def ask_both() -> None:
        async with single.snapshot() as snapshot:
            await asyncio.gather(snapshot.rows(NAMES), snapshot.rows(NAMES))

    with pytest.raises(asyncpg.InterfaceError) as caught:
        await ask_both()
    assert not is_outage(caught.value)


async def test_a_cancelled_statement_frees_its_place_in_the_pool(database: str) -> None:
    with_long_timeout = Database(
        database, pool_size=1, statement_timeout=59, prepared_statements=True
    )

    async def hang() -> None:
        async with with_long_timeout.snapshot() as snapshot:
            await snapshot.rows(sa.text("SELECT pg_sleep(600)"))

    task = asyncio.create_task(hang())
    async with asyncio.timeout(DEADLINE):
        while not ask(database, SLEEPING):  # noqa: ASYNC110 - PostgreSQL sends no signal
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with with_long_timeout.snapshot() as snapshot:
        assert await snapshot.scalars(sa.text("SELECT 1")) == [1]
    await with_long_timeout.close()


async def test_after_a_migration_a_statement_alone_succeeds_at_once(
    single: Database, database: str, webapp: WebApp
) -> None:
    user = webapp.create_user()
    [before] = await single.alone(NAMES)
    change(database, "ALTER TABLE users ALTER id TYPE bigint")
    [after] = await single.alone(NAMES)
    assert (after.id, after.name) == (before.id, before.name) == (user.id, user.name)
    change(database, "ALTER TABLE users ALTER id TYPE integer")


async def test_after_a_migration_one_snapshot_fails_as_an_outage(
    snapshots: Database, database: str, webapp: WebApp
) -> None:
    """One connection finds its prepared statements outdated; then all connections are replaced."""
    user = webapp.create_user()
    async with snapshots.snapshot() as first, snapshots.snapshot() as second:
        before = [await ask_names(each) for each in (first, second)]
    change(database, "ALTER TABLE users ALTER name TYPE varchar(500)")

    async def again() -> list[tuple[int, str]]:
        async with snapshots.snapshot() as snapshot:
            return await ask_names(snapshot)

    with pytest.raises(ConnectionError, match="Cached") as caught:
        await again()
    assert is_outage(caught.value)
    after = list(await asyncio.gather(again(), again()))
    assert after == before == [[(user.id, user.name)]] * 2
