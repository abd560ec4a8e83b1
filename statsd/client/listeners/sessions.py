"""Publishing what a session commits: collect on flush, publish on the outermost commit.

What is collected belongs to a transaction or savepoint and goes with it: released, it belongs
to the one around it; rolled back, it is forgotten. It is published when the outermost one has
ended with a commit and its connection is back in the pool: without duplicates, in one pipeline.

Covered are flushes and the statements INSERT, UPDATE and DELETE that a session executes
(`Session.execute`, `Query.update`, `Query.delete`), of entities and of Core tables. Not covered,
and left to the daemon's reconciling, is what no event of a session tells:

- `bulk_save_objects`, `bulk_insert_mappings` and `bulk_update_mappings`;
- textual SQL, and what is executed on an engine or a connection;
- INSERT ... FROM SELECT, inserted values that are SQL expressions or the database's defaults,
  or bound parameters, the rows that ON CONFLICT changes, and changes inside of CTEs;
- with SQLAlchemy 1.4, statements whose RETURNING is read through `from_statement`;
- on an engine in AUTOCOMMIT, what it takes a look-up to know (the modules of a dojo, the rows of
  an UPDATE or DELETE);
- triggers, and cascades in the database beyond those that the events of the deleted dojo,
  challenge or user cover;
- what one UPDATE or DELETE changes beyond 10,000 rows.
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
    """Publish what sessions commit from now on; return a function that ends that.

    `target` is what the application makes its sessions with: a class of Session or
    AsyncSession, a (async_)sessionmaker, or a scoped session over one. Of a factory of
    AsyncSessions it is those made from now on. They go with either publisher; a synchronous one
    holds up the event loop while it publishes. A commit succeeds whether or not Redis does, and
    is longer by no more than publishing may take. With a publisher that is switched off nothing
    is listened to. Raises TypeError for another target, and for
    an AsyncPublisher where sessions are synchronous.
    """
    heard = _heard(target)
    publish: Published = publisher.publish
    if isinstance(publisher, AsyncPublisher):
        if not heard.asynchronous:
            raise TypeError("synchronous sessions publish with a Publisher")
        publish = _awaiting(publisher)
    if not publisher.enabled:
        return lambda: None
    return _Listeners(publish, heard.only_in).attach(heard.session_class)


class _Heard(NamedTuple):
    """The class whose events are heard: all, or those of sessions inside of `only_in`."""

    session_class: type[Session]
    asynchronous: bool
    only_in: type | None = None


def _awaiting(publisher: AsyncPublisher) -> Published:
    """Return `publish` as the synchronous code inside an AsyncSession calls it."""
    return lambda *events: await_only(publisher.publish(*events))


def _heard(target: Any) -> _Heard:
    """Find the class in a class, a factory or a scoped session; give a factory its own."""
    factory = None
    while not isinstance(target, type):
        # A scoped session has a factory, a factory a class.
        inner = getattr(target, "session_factory", None) or getattr(target, "class_", None)
        if inner is None:
            raise TypeError(f"no class or factory of sessions: {target!r}")
        factory, target = target, inner
    if issubclass(target, Session):
        return _Heard(target, asynchronous=False)
    # An AsyncSession has no events; the Session inside of it has them.
    inside: Any = getattr(target, "sync_session_class", None)
    if inside is None:
        raise TypeError(f"no class of sessions: {target!r}")
    if factory is None:
        return _Heard(inside, asynchronous=True, only_in=target)
    # Factories share these classes, so that this one needs one of its own.
    inside = factory.kw.get("sync_session_class", inside)
    inside = type(inside.__name__, (inside,), {})
    factory.configure(sync_session_class=inside)
    return _Heard(inside, asynchronous=True)


class _Listeners:
    """The handlers of one call of `listen`, and what is collected but not committed."""

    def __init__(self, publish: Published, only_in: type | None) -> None:
        self._publish = publish
        self._only_in = only_in
        self._flushes: WeakKeyDictionary[Session, Flush] = WeakKeyDictionary()
        self._collected: Collected = WeakKeyDictionary()
        self._committed: Collected = WeakKeyDictionary()

    def attach(self, session_class: Any) -> Callable[[], None]:
        """Hear the events of sessions; return a function that ends it, and may be called twice."""
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
        """Return whether a session is inside of an `only_in`, where that is asked for."""
        if self._only_in is None:
            return True
        from sqlalchemy.ext.asyncio import async_session  # noqa: PLC0415 - it wants greenlet

        return isinstance(async_session(session), self._only_in)

    # Collecting what flushes change.

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

    # Collecting what statements change.

    def _do_orm_execute(self, state: ORMExecuteState) -> Result[Any] | None:
        if not (state.is_insert or state.is_update or state.is_delete):
            return None
        statement = Statement(state)
        session = state.session
        if not statement.tables or not self._ours(session):
            return None
        # As the statement would, but before its rows are looked at.
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
        meanings = [what for change in changes for what in meaning(change)]
        if not meanings:
            return
        with connection_of(session, bind) as connection:
            events = dict.fromkeys(complete(meanings, before, connection))
        transaction = _innermost(session)
        if transaction is None:  # SQLAlchemy 1.4 in autocommit mode: it is committed
            self._publish(*events)
        else:
            self._collected.setdefault(transaction, {}).update(events)

    # Publishing or forgetting what was collected.

    def _after_commit(self, session: Session) -> None:
        """Hand on what was collected; savepoints that are released come here as well."""
        transaction = _innermost(session)
        if transaction is None or not (events := self._collected.pop(transaction, None)):
            return
        if outer := _around(transaction):
            self._collected.setdefault(outer, {}).update(events)
        else:
            self._committed[transaction] = events

    def _after_transaction_end(self, session: Session, transaction: SessionTransaction) -> None:
        """Publish what was committed; what was not is forgotten here."""
        if not transaction.nested:
            self._flushes.pop(session, None)  # of a flush that failed
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
