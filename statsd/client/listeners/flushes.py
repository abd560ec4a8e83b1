"""One flush of a session: the rows of the contract's tables that it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from statsd.client.listeners.changes import COLUMNS, NEEDED_OF_INSERTS, Change, Row
from statsd.client.listeners.lookups import (
    Before,
    Key,
    connection_of,
    key_of,
    remember,
    rows_by_key,
)
from statsd.client.listeners.mapped import View, changed, past, present, views_of

if TYPE_CHECKING:  # SQLAlchemy 1.4 has some of these names elsewhere
    from collections.abc import Iterable, Iterator

    from sqlalchemy.orm import InstanceState, Session
    from sqlalchemy.sql.expression import TableClause

    Seen = tuple[View, InstanceState[Any]]


class Flush:
    """Collects `changes` while a session flushes; `before` has the rows before them.

    `bind` has the arguments with which the session finds the database of our tables. A flush
    without such tables runs no query. It has no reference to the session: the flush is kept until
    the session is deleted, if it fails.
    """

    def __init__(self) -> None:
        self.before = Before()
        self.changes: list[Change] = []
        self.bind: dict[str, Any] = {}

    def look(self, session: Session) -> None:
        """Read the rows that are about to be changed or deleted.

        Objects may not have them: after a commit their attributes are expired.
        """
        keys: dict[TableClause, set[Key]] = {}
        for view, state in self._seen(session.deleted) + self._dirty(session):
            if (key := key_of(view.table.name, past(view, state))) is not None:
                keys.setdefault(view.table, set()).add(key)
        for table, own in keys.items():
            with connection_of(session, self.bind) as connection:
                rows = rows_by_key(connection, table, own)
                remember(self.before, connection, table.name, rows)

    def flushed(self, session: Session) -> None:
        """Collect inserted and updated rows, while the session still has the history."""
        found: list[tuple[View, Row | None, Row]] = []
        for view, state in self._seen(session.new):
            new = present(view, state)  # with an old row when it replaces a deleted object
            found.append((view, self._old(view, new), new))
        for view, state in self._dirty(session):
            old = past(view, state)
            found.append((view, self._old(view, old) or old, present(view, state)))
        self.changes += self._completed(session, found)

    def deleted(self, instance: object) -> None:
        """Collect a deleted object. Deleted orphans are not known earlier."""
        for view, state in self._seen([instance]):
            old = past(view, state)
            self.changes.append(Change(view.table.name, self._old(view, old) or old, None))

    def _dirty(self, session: Session) -> list[Seen]:
        return [seen for seen in self._seen(session.dirty) if changed(*seen)]

    def _seen(self, objects: Iterable[object]) -> list[Seen]:
        seen = [row for obj in objects for row in views_of(obj)]
        if seen:
            self.bind = {"mapper": seen[0][1].mapper}
        return seen

    def _old(self, view: View, row: Row) -> Row | None:
        key = key_of(view.table.name, row)
        return None if key is None else self.before.rows.get((view.table.name, key))

    def _completed(
        self, session: Session, found: list[tuple[View, Row | None, Row]]
    ) -> Iterator[Change]:
        """Yield the changes. Columns that a meaning depends on and no object has are read."""
        lacking: dict[TableClause, set[Key]] = {}
        for view, old, new in found:
            needed = NEEDED_OF_INSERTS if old is None else COLUMNS
            key = key_of(view.table.name, new)
            if key is not None and any(name not in new for name in needed[view.table.name]):
                lacking.setdefault(view.table, set()).add(key)
        read: dict[tuple[str, Key | None], Row] = {}
        for table, keys in lacking.items():
            with connection_of(session, self.bind) as connection:
                rows = rows_by_key(connection, table, keys)
            read.update({(table.name, key): row for key, row in rows.items()})
        for view, old, new in found:
            name = view.table.name
            yield Change(name, old, read.get((name, key_of(name, new)), new))
