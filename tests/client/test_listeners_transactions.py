"""Events are published after the outermost commit, and never after a rollback."""

import gc
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import sessionmaker

from statsd.client import Publisher, listen
from statsd.events import BeltsUpdate, ChallengeSolve, EmojisUpdate, Event, UserUpdate
from tests.client import ctfd

Run = Callable[[Callable[[Any], object]], Awaitable[set[Event]]]
Entries = Callable[[], list[Event]]


@pytest.fixture
def rename() -> Callable[..., None]:
    """Rename a user and flush that, which stands for any change."""

    def to(session: Any, user_id: int, name: str = "another") -> None:
        session.get(ctfd.Users, user_id).name = name
        session.flush()

    return to


def test_rolled_back_changes_are_not_published(
    sessions: Any, entries: Entries, rename: Callable[..., None]
) -> None:
    with sessions() as session:
        rename(session, 1)
        session.rollback()
        session.commit()
        rename(session, 2)
    with sessions() as session:  # the other was closed without a commit
        session.commit()
    assert entries() == []


async def test_rolled_back_changes_are_not_published_async(
    async_sessions: Any, entries: Entries, rename: Callable[..., None]
) -> None:
    async with async_sessions() as session:
        await session.run_sync(rename, 1)
        await session.rollback()
        await session.run_sync(rename, 2)
        await session.commit()
        await session.run_sync(rename, 3)
    assert entries() == [UserUpdate(2)]


def test_each_commit_of_a_session_publishes_its_own(
    sessions: Any, entries: Entries, rename: Callable[..., None]
) -> None:
    with sessions() as session:
        rename(session, 1)
        session.commit()
        assert entries() == [UserUpdate(1)]
        session.commit()
        assert entries() == []
        rename(session, 2)
        session.commit()
        assert entries() == [UserUpdate(2)]
        with session.begin():
            rename(session, 3)
        assert entries() == [UserUpdate(3)]


def test_a_commit_publishes_the_changes_that_it_flushes(sessions: Any, entries: Entries) -> None:
    with sessions.begin() as session:
        session.get(ctfd.Users, 1).name = "another"
    assert entries() == [UserUpdate(1)]


def test_the_same_event_is_published_once(
    sessions: Any, entries: Entries, rename: Callable[..., None]
) -> None:
    with sessions.begin() as session:
        rename(session, 1, "another")
        rename(session, 1, "a third")
        session.add_all([ctfd.Belts(user_id=1), ctfd.Emojis(user_id=1), ctfd.Belts(user_id=2)])
        session.flush()
        with session.begin_nested():
            rename(session, 1, "a fourth")
    assert sorted(event.type for event in entries()) == [
        "belts_update",
        "emojis_update",
        "user_update",
    ]


async def test_a_released_savepoint_is_published_by_the_commit(
    run: Run, rename: Callable[..., None], entries: Entries
) -> None:
    def work(session: Any) -> None:
        rename(session, 1)
        with session.begin_nested():
            rename(session, 2)
            with session.begin_nested():
                rename(session, 3)
        assert entries() == []

    assert await run(work) == {UserUpdate(1), UserUpdate(2), UserUpdate(3)}


async def test_a_savepoint_rolled_back_forgets_only_its_own(
    run: Run, rename: Callable[..., None]
) -> None:
    def work(session: Any) -> None:
        rename(session, 1)
        savepoint = session.begin_nested()
        rename(session, 2)
        session.add(ctfd.Belts(user_id=1))
        session.flush()
        session.execute(sa.delete(ctfd.Awards).where(ctfd.Awards.id == ctfd.EMOJI))
        savepoint.rollback()
        rename(session, 3)

    assert await run(work) == {UserUpdate(1), UserUpdate(3)}


async def test_an_inner_savepoint_goes_with_the_outer_one(
    run: Run, rename: Callable[..., None]
) -> None:
    def work(session: Any) -> None:
        outer = session.begin_nested()
        rename(session, 1)
        with session.begin_nested():
            rename(session, 2)
        outer.rollback()
        with session.begin_nested():
            inner = session.begin_nested()
            rename(session, 1, "a third")
            inner.rollback()
            rename(session, 3)

    assert await run(work) == {UserUpdate(3)}


async def test_a_rolled_back_savepoint_keeps_the_events_from_before_it(
    run: Run, rename: Callable[..., None]
) -> None:
    def work(session: Any) -> None:
        rename(session, 1)
        savepoint = session.begin_nested()
        rename(session, 1, "a third")
        savepoint.rollback()

    assert await run(work) == {UserUpdate(1)}


def test_a_failed_flush_is_forgotten_and_the_session_goes_on(
    sessions: Any, entries: Entries, rename: Callable[..., None]
) -> None:
    with sessions() as session:
        rename(session, 1)
        session.add_all([ctfd.Belts(user_id=1), ctfd.Awards(id=ctfd.EMOJI)])
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
        rename(session, 2)
        session.commit()
    assert entries() == [UserUpdate(2)]


async def test_a_failed_flush_in_a_savepoint_forgets_the_savepoint(
    run: Run, rename: Callable[..., None]
) -> None:
    def work(session: Any) -> None:
        rename(session, 1)
        savepoint = session.begin_nested()
        session.add(ctfd.Belts(user_id=1))
        session.flush()
        session.add(ctfd.Emojis(id=ctfd.EMOJI))
        with pytest.raises(IntegrityError):
            session.flush()
        savepoint.rollback()

    assert await run(work) == {UserUpdate(1)}


def test_a_commit_that_the_database_refuses_publishes_nothing(
    sessions: Any, entries: Entries, rename: Callable[..., None]
) -> None:
    with sessions() as session:
        rename(session, 1)
        session.add(ctfd.Pages(title="index"))  # is there, which a deferred constraint minds
        session.flush()
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        rename(session, 2)
        session.commit()
    assert entries() == [UserUpdate(2)]


def test_sessions_do_not_mix(sessions: Any, entries: Entries, rename: Callable[..., None]) -> None:
    with sessions() as one, sessions() as other:
        rename(one, 1)
        rename(other, 2)
        other.commit()
        assert entries() == [UserUpdate(2)]
        one.commit()
        assert entries() == [UserUpdate(1)]


def test_the_connection_is_back_in_the_pool_before_publishing(
    engine: Any, publisher: Publisher, entries: Entries, rename: Callable[..., None]
) -> None:
    """Told by a second set of listeners: theirs come after those that publish."""
    factory = sessionmaker(engine)
    seen = []
    remove = listen(factory, publisher)

    def published(_session: Any, _transaction: Any) -> None:
        seen.append((engine.pool.checkedout(), entries()))

    with factory() as session:
        rename(session, 1)
        sa.event.listen(factory, "after_transaction_end", published)
        session.commit()
    remove()
    assert seen[-1] == (0, [UserUpdate(1)])


def test_a_session_whose_flush_failed_is_not_kept(sessions: Any) -> None:
    session = sessions()
    session.add(ctfd.Awards(id=ctfd.EMOJI))
    with suppress(IntegrityError):
        session.flush()
    session.close()
    kept = weakref.ref(session)
    del session
    gc.collect()
    assert kept() is None


async def test_statements_that_run_inside_of_a_flush_are_heard(run: Run) -> None:
    def before(session: Any, _context: Any, _objects: Any) -> None:
        session.execute(sa.update(ctfd.Users).where(ctfd.Users.id == 1).values(hidden=True))

    def after(session: Any, _context: Any) -> None:
        session.execute(sa.update(ctfd.Users).where(ctfd.Users.id == 2).values(hidden=True))

    def work(session: Any) -> None:
        sa.event.listen(session, "before_flush", before)
        sa.event.listen(session, "after_flush", after)
        session.get(ctfd.Users, 3).hidden = True

    assert await run(work) == {UserUpdate(1), UserUpdate(2), UserUpdate(3)}


def test_a_session_may_have_a_bind_for_each_class(
    engine: Any, publisher: Publisher, entries: Entries
) -> None:
    factory = sessionmaker(binds=dict.fromkeys((ctfd.Users, ctfd.DojoUsers, ctfd.Solves), engine))
    remove = listen(factory, publisher)
    with factory.begin() as session:
        user: Any = session.get(ctfd.Users, 1)
        user.name = "another"
        session.add(ctfd.Solves(user_id=1, challenge_id=1))
        session.query(ctfd.DojoUsers).delete()
        session.execute(sa.delete(ctfd.Users.__table__).where(ctfd.Users.id == 3))
    remove()
    assert set(entries()) == ctfd.changed(ctfd.DOJO, 0, 1) | {
        UserUpdate(1),
        UserUpdate(3),
        ChallengeSolve(1, 1, "2024-01-02T03:04:05"),
    }


def test_look_ups_that_fail_do_not_break_the_transaction(
    sessions: Any, entries: Entries, caplog: pytest.LogCaptureFixture
) -> None:
    with sessions() as session:
        session.execute(sa.text("ALTER TABLE dojo_modules RENAME TO elsewhere"))
        session.add(ctfd.DojoUsers(dojo_id=ctfd.DOJO, user_id=1))
        session.flush()
        session.execute(sa.text("ALTER TABLE elsewhere RENAME TO dojo_modules"))
        session.commit()
    assert set(entries()) == ctfd.changed(ctfd.DOJO)
    assert caplog.messages == ["a look-up before publishing failed: ProgrammingError"]


def test_flushes_and_statements_that_touch_none_of_our_tables_ask_nothing(
    sessions: Any, engine: Any
) -> None:
    with sessions() as session:
        page, user = session.get(ctfd.Pages, 1), session.get(ctfd.Users, 1)
        statements: list[str] = []
        sa.event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
        page.title, user.language = "home", "de"
        session.add(ctfd.Solves(user_id=1, challenge_id=1))
        session.execute(sa.update(ctfd.Pages).values(title="start"))
        session.execute(sa.text("SELECT 1"))
        session.rollback()
    assert sorted(statement.split()[0] for statement in statements) == (
        ["INSERT", "INSERT", "SELECT", "UPDATE", "UPDATE", "UPDATE"]
    )


@pytest.mark.filterwarnings("ignore:Deprecated API features detected")  # the subject of the test
@pytest.mark.skipif(not sa.__version__.startswith("1."), reason="2.0 has no autocommit mode")
def test_sqlalchemy_1_4_in_autocommit_mode_publishes_each_flush_and_statement(
    engine: Any, publisher: Publisher, entries: Entries
) -> None:
    options: dict[str, Any] = {"autocommit": True}
    factory: Any = sessionmaker(engine, **options)
    remove = listen(factory, publisher)
    with factory() as session:
        session.get(ctfd.Users, 1).name = "another"
        session.flush()
        assert entries() == [UserUpdate(1)]
        session.query(ctfd.Users).filter_by(id=2).update({"hidden": True})
        assert entries() == [UserUpdate(2)]
        with session.begin():
            session.query(ctfd.Awards).delete()
            with session.begin(subtransactions=True):
                session.get(ctfd.Users, 3).name = "another"
            assert entries() == []
        assert set(entries()) == {UserUpdate(3), BeltsUpdate(), EmojisUpdate()}
    remove()
    assert engine.pool.checkedout() == 0
