"""Queries of the listeners: rows before and after a change, and rows that depend on them.

Queries use the session's own connection and transaction. They are Core statements, so they flush
nothing. Each runs in a savepoint: a query that fails is logged and finds nothing, and the
application's transaction goes on.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from statsd import schema
from statsd.client.listeners.changes import (
    COLUMNS,
    KEYS,
    ChallengeGone,
    DojoChanged,
    Meaning,
    Row,
    dojo_events,
)
from statsd.events import ActivityUpdate, Event

if TYPE_CHECKING:  # SQLAlchemy 1.4 has some of these names elsewhere
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from sqlalchemy.orm import Session
    from sqlalchemy.sql.expression import FromClause, TableClause

log = logging.getLogger("statsd.client")

Key = tuple[Any, ...]

MOST_ROWS = 10_000
"""The most rows of one statement that are read. More would delay the request too long."""

CHUNK = 1_000  # keys in one statement


@dataclass
class Before:
    """The state before a change: rows by table and key, and what may be deleted with them.

    `dojos` has the modules of the dojos among the rows. `challenges` has, for each challenge among
    them, the meanings of its deletion.
    """

    rows: dict[tuple[str, Key], Row] = field(default_factory=dict)
    dojos: set[DojoChanged] = field(default_factory=set)
    challenges: dict[int, set[Meaning]] = field(default_factory=dict)


@contextmanager
def connection_of(session: Session, bind: Mapping[str, Any]) -> Iterator[sa.Connection]:
    """Lend the connection of a session's transaction, for these bind arguments."""
    connection = session.connection(bind_arguments=dict(bind))
    try:
        yield connection
    finally:
        if not session.in_transaction():  # SQLAlchemy 1.4 in autocommit mode
            connection.close()


def known(table: FromClause) -> TypeGuard[TableClause]:
    """Say whether this is a table of the contract, with its key."""
    key = KEYS.get(getattr(table, "name", ""))
    return key is not None and all(name in table.c for name in key)


def key_of(table: str, row: Row) -> Key | None:
    """Return a row's primary key, or None if a part of it is unknown."""
    key = tuple(row.get(name) for name in KEYS[table])
    return None if None in key else key


def rows_by_key(
    connection: sa.Connection, table: TableClause, keys: Collection[Key]
) -> dict[Key, Row]:
    """Return those of the rows that exist."""
    columns = [table.c[name] for name in KEYS[table.name]]
    found: dict[Key, Row] = {}
    listed = list(keys)
    for start in range(0, len(listed), CHUNK):
        among = sa.tuple_(*columns).in_(listed[start : start + CHUNK])
        found.update(_rows(connection, table, _select(table).where(among)))
    return found


def rows_where(
    connection: sa.Connection,
    table: TableClause,
    criterion: sa.ColumnElement[bool] | None,
    parameters: Mapping[str, Any],
) -> dict[Key, Row]:
    """Return the rows that a statement with this WHERE is going to change, up to MOST_ROWS."""
    statement = _select(table).limit(MOST_ROWS + 1)
    if criterion is not None:
        statement = statement.where(criterion)
    found = _rows(connection, table, statement, parameters)
    if len(found) > MOST_ROWS:
        log.warning(
            "a statement changes more than %d rows of %s: the rest is left to reconciling",
            MOST_ROWS,
            table.name,
        )
    return found


def remember(
    before: Before, connection: sa.Connection, table: str, rows: Mapping[Key, Row]
) -> None:
    """Add rows that are about to change to `before`, with all that may be deleted with them."""
    before.rows.update({(table, key): row for key, row in rows.items()})
    ids = [key[0] for key in rows]
    if table == "dojos" and ids:
        before.dojos |= _modules(connection, ids)
    if table == "challenges" and ids:
        for challenge_id, meaning in _dependents(connection, ids):
            before.challenges.setdefault(challenge_id, set()).add(meaning)


def complete(
    meanings: Iterable[Meaning], before: Before, connection: sa.Connection
) -> Iterator[Event]:
    """Yield the events of the meanings of changes; for a dojo, also those of its modules."""
    dojos: dict[int, set[int]] = {}
    parts = [part for meaning in meanings for part in _parts(meaning, before)]
    for part in parts:
        if isinstance(part, Event):
            yield part
        elif isinstance(part, DojoChanged):
            dojos.setdefault(part.dojo_id, set())
    modules = _modules(connection, dojos) if dojos else set()
    for part in {*parts, *before.dojos, *modules}:
        if isinstance(part, DojoChanged) and part.module_index is not None:
            dojos.get(part.dojo_id, set()).add(part.module_index)
    for dojo_id, indexes in dojos.items():
        yield from dojo_events(dojo_id, indexes)


def _parts(meaning: Meaning, before: Before) -> Collection[Meaning]:
    if isinstance(meaning, ChallengeGone):
        return before.challenges.get(meaning.challenge_id, ())
    return (meaning,)


def _modules(connection: sa.Connection, dojo_ids: Collection[int]) -> set[DojoChanged]:
    table = schema.dojo_modules
    statement = sa.select(table.c.dojo_id, table.c.module_index)
    rows = _query(connection, statement.where(table.c.dojo_id.in_(list(dojo_ids))))
    return {DojoChanged(*row) for row in rows}


def _dependents(
    connection: sa.Connection, challenge_ids: Collection[int]
) -> Iterator[tuple[int, Meaning]]:
    """Yield, by challenge, the dojos that contain it and the users whose solves it deletes."""
    scopes, solves = schema.dojo_challenges, schema.submissions
    contained = sa.select(scopes.c.challenge_id, scopes.c.dojo_id, scopes.c.module_index)
    for challenge_id, *scope in _query(
        connection, contained.where(scopes.c.challenge_id.in_(list(challenge_ids)))
    ):
        yield challenge_id, DojoChanged(*scope)
    solved = sa.select(solves.c.challenge_id, solves.c.user_id).where(
        solves.c.challenge_id.in_(list(challenge_ids)),
        solves.c.type == "correct",
        solves.c.user_id.isnot(None),
    )
    for challenge_id, user_id in _query(connection, solved.limit(MOST_ROWS)):
        yield challenge_id, ActivityUpdate(user_id)


def _select(table: TableClause) -> sa.Select[Any]:
    return sa.select(*[table.c[name] for name in _names(table)])


def _names(table: TableClause) -> list[str]:
    return [name for name in COLUMNS[table.name] if name in table.c]


def _rows(
    connection: sa.Connection,
    table: TableClause,
    statement: sa.Select[Any],
    parameters: Mapping[str, Any] | None = None,
) -> dict[Key, Row]:
    found: dict[Key, Row] = {}
    for values in _query(connection, statement, parameters):
        row = dict(zip(_names(table), values, strict=True))
        if (key := key_of(table.name, row)) is not None:
            found[key] = row
    return found


def _query(
    connection: sa.Connection,
    statement: sa.Select[Any],
    parameters: Mapping[str, Any] | None = None,
) -> list[Any]:
    try:
        with connection.begin_nested():
            return list(connection.execute(statement, dict(parameters or {})))
    except SQLAlchemyError as error:
        log.warning("a look-up before publishing failed: %s", type(error).__name__)
        return []
