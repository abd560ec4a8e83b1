"""Publishing the changes of a session: collect on flush, publish on the outermost commit.

Collected events belong to a transaction or savepoint. When a savepoint is released, they belong to
the transaction around it; when it is rolled back, they are dropped. They are published after the
outermost transaction was committed and its connection is back in the pool: without duplicates, in
one pipeline.

The listeners see flushes, and the statements INSERT, UPDATE and DELETE that a session executes
(`Session.execute`, `Query.update`, `Query.delete`), of entities and of Core tables. SQLAlchemy has
no event for the following changes. The daemon finds them without an event, later:

- `bulk_save_objects`, `bulk_insert_mappings` and `bulk_update_mappings`;
- textual SQL, and statements executed on an engine or a connection;
- INSERT ... FROM SELECT, inserted values that are SQL expressions or the database's defaults,
  or bound parameters, the rows that ON CONFLICT changes, and changes inside of CTEs;
- with SQLAlchemy 1.4, statements whose RETURNING is read through `from_statement`;
- on an engine in AUTOCOMMIT, changes that need a query (the modules of a dojo, the rows of an
  UPDATE or DELETE);
- triggers, and cascades in the database, except those of a deleted dojo, challenge or user, whose
  events cover them;
- rows beyond the first 10,000 of one UPDATE or DELETE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

import statsd.identity  # noqa: F401 - says so if the other `statsd` is here
from statsd.client.listeners.bulk import Statement
from statsd.client.listeners.changes import Change, meaning
from statsd.client.listeners.flushes import Flush
from statsd.client.listeners.lookups import Before, complete, connection_of
from statsd.client.publisher import AsyncPublisher, Publisher

if TYPE_CHECKING:  # SQLAlchemy 1.4 has some of these names elsewhere
    from collections.abc import Callable, Iterable, Mapping

    from sqlalchemy.engine import Result
    from sqlalchemy.orm import ORMExecuteState, SessionTransaction, UOWTransaction

    from statsd.events import Event

    Handler = Callable[..., Any]
    Collected = WeakKeyDictionary[SessionTransaction, dict[Event, None]]
    Published = Callable[..., object]


def listen(target: Any, publisher: Publisher | AsyncPublisher) -> Callable[[], None]:
    """Publish the changes that sessions commit from now on; return a function that ends it.

    `target` makes the sessions of the application: a class of Session or AsyncSession, a
    (async_)sessionmaker, or a scoped session over one. For a factory of AsyncSessions, only
    sessions made from now on publish. AsyncSessions work with both publishers; a synchronous one
    blocks the event loop while it publishes. A commit succeeds whether or not Redis does, and
    takes longer by the time of publishing. A publisher that is switched off adds no listeners.
    Raises TypeError for another target, and for an AsyncPublisher with synchronous sessions.
    """
    found = _class_of(target)
    publish: Published = publisher.publish
    if isinstance(publisher, AsyncPublisher):
        if not found.asynchronous:
            raise TypeError("synchronous sessions publish with a Publisher")
        publish = _awaiting(publisher)
    if not publisher.enabled:
        return lambda: None
    return _Listeners(publish, found.only_in).attach(found.session_class)


class _Listened(NamedTuple):
    """The class to listen to. With `only_in`, only its sessions inside of that class publish."""

    session_class: type[Session]
    asynchronous: bool
    only_in: type | None = None


def _awaiting(publisher: AsyncPublisher) -> Published:
    """Return `publish` as the synchronous code inside an AsyncSession calls it."""
    return lambda *events: await_only(publisher.publish(*events))


def _class_of(target: Any) -> _Listened:
    """Return the class of a class, factory or scoped session; a factory gets one of its own."""
    factory = None
    while not isinstance(target, type):
        # A scoped session has a factory, a factory a class.
        inner = getattr(target, "session_factory", None) or getattr(target, "class_", None)
        if inner is None:
            raise TypeError(f"no class or factory of sessions: {target!r}")
        factory, target = target, inner
    if issubclass(target, Session):
        return _Listened(target, asynchronous=False)
    # An AsyncSession has no events; the Session inside of it does.
    inside: Any = getattr(target, "sync_session_class", None)
    if inside is None:
        raise TypeError(f"no class of sessions: {target!r}")
    if factory is None:
        return _Listened(inside, asynchronous=True, only_in=target)
    # Factories share these classes, so this factory gets a class of its own.
    inside = factory.kw.get("sync_session_class", inside)
    inside = type(inside.__name__, (inside,), {})
    factory.configure(sync_session_class=inside)
    return _Listened(inside, asynchronous=True)


class _Listeners:
    """The listeners of one call of `listen`, and the events that are not committed yet."""

    def __init__(self, publish: Published, only_in: type | None) -> None:
        self._publish = publish
        self._only_in = only_in
        self._flushes: WeakKeyDictionary[Session, Flush] = WeakKeyDictionary()
        self._collected: Collected = WeakKeyDictionary()
        self._committed: Collected = WeakKeyDictionary()

    def attach(self, session_class: Any) -> Callable[[], None]:
        """Listen to sessions; return a function that ends it, and may be called twice."""
        handlers: dict[str, Handler] = {
            "before_flush": self._before_flush,
            "after_flush": self._after_flush,
            "persistent_to_deleted": self._persistent_to_deleted,
            "after_flush_postexec": self._after_flush_postexec,
            "do_orm_execute": self._do_orm_execute,
            "after_commit": self._after_commit,
            "after_transaction_end": self._after_transaction_end,
        }
        for name, handler in handlers.items():
            event.listen(session_class, name, handler)

        def remove() -> None:
            while handlers:
                event.remove(session_class, *handlers.popitem())

        return remove

    def _ours(self, session: Session) -> bool:
        """Say whether a session is inside of an `only_in`, if there is one."""
        if self._only_in is None:
            return True
        from sqlalchemy.ext.asyncio import async_session  # noqa: PLC0415 - it needs greenlet

        return isinstance(async_session(session), self._only_in)

    # Collecting the changes of flushes.

    def _before_flush(self, session: Session, _context: UOWTransaction, _objects: object) -> None:
        if self._ours(session):
            flush = self._flushes[session] = Flush()
            flush.look(session)

    def _after_flush(self, session: Session, _context: UOWTransaction) -> None:
        if flush := self._flushes.get(session):
            flush.flushed(session)

    def _persistent_to_deleted(self, session: Session, instance: object) -> None:
        if flush := self._flushes.get(session):
            flush.deleted(instance)

    def _after_flush_postexec(self, session: Session, _context: UOWTransaction) -> None:
        if flush := self._flushes.pop(session, None):
            self._collect(session, flush.bind, flush.changes, flush.before)

    # Collecting the changes of statements.

    def _do_orm_execute(self, state: ORMExecuteState) -> Result[Any] | None:
        if not (state.is_insert or state.is_update or state.is_delete):
            return None
        statement = Statement(state)
        session = state.session
        if not statement.tables or not self._ours(session):
            return None
        # The statement would flush too, but its rows are read before.
        if statement.flushes and not getattr(session, "_flushing", False):
            session.flush()
        with connection_of(session, statement.bind) as connection:
            before = statement.before(connection)
        result = state.invoke_statement()
        with connection_of(session, statement.bind) as connection:
            changes = list(statement.changes(connection, before))
        self._collect(session, statement.bind, changes, before)
        return result

    def _collect(
        self,
        session: Session,
        bind: Mapping[str, Any],
        changes: Iterable[Change],
        before: Before,
    ) -> None:
        meanings = [each for change in changes for each in meaning(change)]
        if not meanings:
            return
        with connection_of(session, bind) as connection:
            events = dict.fromkeys(complete(meanings, before, connection))
        transaction = _innermost(session)
        if transaction is None:  # SQLAlchemy 1.4 in autocommit mode: it is committed
            self._publish(*events)
        else:
            self._collected.setdefault(transaction, {}).update(events)

    # Publishing or dropping collected events.

    def _after_commit(self, session: Session) -> None:
        """Pass collected events on. It is called for released savepoints too."""
        transaction = _innermost(session)
        if transaction is None or not (events := self._collected.pop(transaction, None)):
            return
        if outer := _around(transaction):
            self._collected.setdefault(outer, {}).update(events)
        else:
            self._committed[transaction] = events

    def _after_transaction_end(self, session: Session, transaction: SessionTransaction) -> None:
        """Publish committed events, and drop all others."""
        if not transaction.nested:
            self._flushes.pop(session, None)  # a failed flush
        self._collected.pop(transaction, None)
        if events := self._committed.pop(transaction, None):
            self._publish(*events)


def _innermost(session: Session) -> SessionTransaction | None:
    """Return the savepoint that a session is in, else its transaction."""
    return session.get_nested_transaction() or session.get_transaction()


def _around(transaction: SessionTransaction) -> SessionTransaction | None:
    """Return the savepoint or transaction around a savepoint; None around a transaction."""
    if not transaction.nested:
        return None
    outer = transaction.parent
    while outer and not outer.nested and outer.parent:
        outer = outer.parent  # a flush's, or a subtransaction of SQLAlchemy 1.4
    return outer
