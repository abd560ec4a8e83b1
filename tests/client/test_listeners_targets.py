"""The targets of `listen`, and its end."""

from collections.abc import Callable
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from statsd.client import AsyncPublisher, Publisher, listen
from statsd.events import Event, UserUpdate
from tests.client import ctfd

Entries = Callable[[], list[Event]]


@pytest.fixture
def rename() -> Callable[[Any], None]:
    def to(session: Any) -> None:
        user = session.get(ctfd.Users, 1)
        user.name += "'"

    return to


class OwnSession(Session):
    pass


class OwnAsyncSession(AsyncSession):
    pass


class InsideSession(Session):
    pass


SYNC: dict[str, Callable[[Any], tuple[Any, Callable[[], Any]]]] = {
    "Session": lambda engine: (Session, lambda: Session(engine)),
    "a class": lambda engine: (OwnSession, lambda: OwnSession(engine)),
    "a factory": lambda engine: (made := sessionmaker(engine), made),
    "a factory of a class": lambda engine: (made := sessionmaker(engine, class_=OwnSession), made),
    "a class made otherwise": lambda engine: (OwnSession, sessionmaker(engine, class_=OwnSession)),
    "scoped": lambda engine: (scoped_session(made := sessionmaker(engine)), made),
}


@pytest.mark.parametrize("how", SYNC)
def test_sessions_of_a_target_publish_until_they_are_let_go(
    how: str, engine: Any, publisher: Publisher, entries: Entries, rename: Callable[[Any], None]
) -> None:
    target, new = SYNC[how](engine)
    with new() as older:
        remove = listen(target, publisher)
        with new() as session:
            rename(session)
            session.commit()
            assert entries() == [UserUpdate(1)]
        rename(older)
        older.commit()
        assert entries() == [UserUpdate(1)]
        remove()
        remove()  # once more does no harm
        rename(older)
        older.commit()
        with new() as session:
            rename(session)
            session.commit()
    assert entries() == []


@pytest.mark.usefixtures("sessions")
def test_other_sessions_do_not_publish(
    engine: Any, entries: Entries, rename: Callable[[Any], None]
) -> None:
    with sessionmaker(engine).begin() as session:
        rename(session)
    assert entries() == []


def test_a_scoped_session_publishes_from_its_registry(
    engine: Any, publisher: Publisher, entries: Entries, rename: Callable[[Any], None]
) -> None:
    registry = scoped_session(sessionmaker(engine))
    remove = listen(registry, publisher)
    rename(registry)
    registry.commit()
    registry.remove()
    remove()
    assert entries() == [UserUpdate(1)]


def factory_of(engine: Any, class_: Any = AsyncSession, **options: Any) -> Any:
    make: Any = sessionmaker
    return make(engine, class_=class_, **options)


def newer_factory_of(engine: Any) -> Any:
    from sqlalchemy.ext.asyncio import async_sessionmaker  # noqa: PLC0415 - 2.0 brought it

    return async_sessionmaker(engine)


ASYNC: dict[str, Callable[[Any], tuple[Any, Callable[[], Any]]]] = {
    "AsyncSession": lambda engine: (AsyncSession, lambda: AsyncSession(engine)),
    "a class": lambda engine: (OwnAsyncSession, lambda: OwnAsyncSession(engine)),
    "a factory": lambda engine: (made := factory_of(engine), made),
    "a factory with a class inside": lambda engine: (
        made := factory_of(engine, sync_session_class=InsideSession),
        made,
    ),
    "a class made otherwise": lambda engine: (AsyncSession, factory_of(engine)),
    "scoped": lambda engine: (async_scoped_session(made := factory_of(engine), lambda: 0), made),
}
if not sa.__version__.startswith("1."):
    ASYNC["a newer factory"] = lambda engine: (made := newer_factory_of(engine), made)


@pytest.mark.parametrize("how", ASYNC)
async def test_asynchronous_sessions_of_a_target_publish_until_they_are_let_go(
    how: str,
    async_engine: Any,
    async_publisher: AsyncPublisher,
    entries: Entries,
    rename: Callable[[Any], None],
) -> None:
    target, new = ASYNC[how](async_engine)
    remove = listen(target, async_publisher)
    async with new() as session:
        await session.run_sync(rename)
        await session.commit()
        assert entries() == [UserUpdate(1)]
        async with OwnAsyncSession(async_engine) as kin, kin.begin():
            await kin.run_sync(rename)
        assert entries() == (
            [UserUpdate(1)] if issubclass(OwnAsyncSession, class_of(target)) else []
        )
        remove()
        await session.run_sync(rename)
        await session.commit()
    assert entries() == []


def class_of(target: Any) -> type:
    return target if isinstance(target, type) else type("nobody's", (), {})


async def test_synchronous_sessions_do_not_publish_for_asynchronous_ones(
    engine: Any, async_publisher: AsyncPublisher, entries: Entries, rename: Callable[[Any], None]
) -> None:
    remove = listen(AsyncSession, async_publisher)
    with Session(engine) as session:  # of the very class that is inside of an AsyncSession
        rename(session)
        session.commit()
    remove()
    assert entries() == []


@pytest.mark.usefixtures("async_sessions")
async def test_other_asynchronous_sessions_do_not_publish(
    async_engine: Any, entries: Entries, rename: Callable[[Any], None]
) -> None:
    other: Any = next(reversed(ASYNC.values()))(async_engine)[1]
    async with other() as session, session.begin():
        await session.run_sync(rename)
    assert entries() == []


async def test_asynchronous_sessions_may_have_a_synchronous_publisher(
    async_engine: Any, publisher: Publisher, entries: Entries, rename: Callable[[Any], None]
) -> None:
    factory = factory_of(async_engine)
    remove = listen(factory, publisher)
    async with factory() as session, session.begin():
        await session.run_sync(rename)
    remove()
    assert entries() == [UserUpdate(1)]


@pytest.fixture
def two_publishers(cache: redis.Redis) -> list[Publisher]:
    return [Publisher(cache), Publisher(cache)]


def test_two_listeners_publish_twice_and_are_removed_one_by_one(
    engine: Any,
    two_publishers: list[Publisher],
    entries: Entries,
    rename: Callable[[Any], None],
) -> None:
    factory = sessionmaker(engine)
    removers = [listen(factory, publisher) for publisher in two_publishers]
    for count in (2, 1, 0):
        with factory.begin() as session:
            rename(session)
        assert entries() == [UserUpdate(1)] * count
        if removers:
            removers.pop()()


def test_with_a_publisher_that_is_switched_off_nothing_is_listened_to(
    engine: Any, cache: redis.Redis, entries: Entries, rename: Callable[[Any], None]
) -> None:
    factory = sessionmaker(engine)
    remove = listen(factory, Publisher(cache, enabled=False))
    statements: list[str] = []
    with factory() as session:
        rename(session)
        sa.event.listen(
            session.connection(), "before_cursor_execute", lambda *args: statements.append(args[2])
        )
        session.commit()
    remove()
    assert [statement.split()[0] for statement in statements] == ["UPDATE"]
    assert entries() == []


@pytest.mark.parametrize("target", [object, object(), int, None, "Session"])
def test_a_target_that_makes_no_sessions_is_refused(target: Any, publisher: Publisher) -> None:
    with pytest.raises(TypeError, match="sessions"):
        listen(target, publisher)


def test_an_async_publisher_is_refused_for_synchronous_sessions(
    engine: Any, async_publisher: AsyncPublisher
) -> None:
    with pytest.raises(TypeError, match="synchronous sessions"):
        listen(sessionmaker(engine), async_publisher)
