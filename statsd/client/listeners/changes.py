"""The meaning of a changed row for the statistics, by pure functions.

A row is a mapping from the contract's column names to values. A missing column is unknown. Nothing
here queries a database. Where a meaning needs more rows, it is a `DojoChanged` or a
`ChallengeGone`, which the caller completes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from statsd import schema
from statsd.events import (
    ActivityUpdate,
    BeltsUpdate,
    ChallengeSolve,
    DojoStatsUpdate,
    EmojisUpdate,
    Event,
    ModuleId,
    ScoreboardUpdate,
    ScoresUpdate,
    UserUpdate,
)

Row = Mapping[str, Any]

COLUMNS = {table.name: tuple(table.columns.keys()) for table in schema.metadata.tables.values()}
"""The columns of the contract, by table."""

KEYS = {
    table.name: tuple(column.name for column in table.primary_key)
    for table in schema.metadata.tables.values()
}

NEEDED_OF_INSERTS: dict[str, tuple[str, ...]] = {
    **KEYS,
    "users": (),
    "challenges": (),
    "awards": ("type",),
    "submissions": ("type", "user_id", "challenge_id", "date"),
}
"""The columns of a new row that its meaning depends on."""


_UNKNOWN = object()


class Change(NamedTuple):
    """A row before and after. `old` is None for a new row, `new` for a deleted one."""

    table: str
    old: Row | None
    new: Row | None


class DojoChanged(NamedTuple):
    """A dojo changed, and so did its modules. The module named here may be deleted by now."""

    dojo_id: int
    module_index: int | None = None


class ChallengeGone(NamedTuple):
    """A challenge was deleted, with its solves. The dojos that contained it changed."""

    challenge_id: int


Meaning = Event | DojoChanged | ChallengeGone


def meaning(change: Change) -> Iterator[Meaning]:
    """Yield the events of a change; none if all columns of the contract have the same values."""
    table, old, new = change
    if old is None or new is None or _differ(table, old, new):
        yield from _MEANINGS[table](old, new)


def dojo_events(dojo_id: int, modules: Iterable[int]) -> Iterator[Event]:
    """Yield the events of a changed dojo. `modules` has the indexes of old and new modules."""
    yield DojoStatsUpdate(dojo_id=dojo_id)
    yield ScoreboardUpdate(model_type="dojo", model_id=dojo_id)
    for index in sorted(modules):
        yield ScoreboardUpdate(model_type="module", model_id=ModuleId(dojo_id, index))
    yield ScoresUpdate(dojo_id=dojo_id)


def _differ(table: str, old: Row, new: Row) -> bool:
    """Say whether a column changed, or may have changed because a value is unknown."""
    return any(old.get(name, _UNKNOWN) != new.get(name, _UNKNOWN) for name in COLUMNS[table])


def _present(*rows: Row | None) -> Iterator[Row]:
    return (row for row in rows if row is not None)


def _submission(old: Row | None, new: Row | None) -> Iterator[Meaning]:
    for row in _present(old, new):
        if row.get("type") != "correct" or row.get("user_id") is None:
            continue
        # A form may have set "5" instead of 5, which the database takes, but no event.
        user_id, challenge_id = int(row["user_id"]), row.get("challenge_id")
        if challenge_id is not None:
            yield ChallengeSolve(user_id, int(challenge_id), _iso(row.get("date")))
        if challenge_id is None or old is not None:
            yield ActivityUpdate(user_id)


def _iso(date: object) -> str | None:
    return date.isoformat() if isinstance(date, datetime) else None


def _part_of_dojo(old: Row | None, new: Row | None) -> Iterator[Meaning]:
    for row in _present(old, new):
        if (dojo_id := row.get("dojo_id")) is not None:
            module_index = row.get("module_index")
            yield DojoChanged(int(dojo_id), None if module_index is None else int(module_index))


def _dojo(old: Row | None, new: Row | None) -> Iterator[Meaning]:
    yield from _part_of_dojo(old, new)
    yield EmojisUpdate()
    yield BeltsUpdate()


def _challenge(old: Row | None, _new: Row | None) -> Iterator[Meaning]:
    if old is not None:
        yield ChallengeGone(int(old["id"]))


def _user(old: Row | None, new: Row | None) -> Iterator[Meaning]:
    if old is not None:  # a new user has solved nothing yet
        for row in _present(old, new):
            yield UserUpdate(int(row["id"]))


def _award(old: Row | None, new: Row | None) -> Iterator[Meaning]:
    types = {row.get("type") for row in _present(old, new)}
    if "belt" in types:
        yield BeltsUpdate()
    if "emoji" in types:
        yield EmojisUpdate()


_MEANINGS: dict[str, Callable[[Row | None, Row | None], Iterator[Meaning]]] = {
    "users": _user,
    "challenges": _challenge,
    "submissions": _submission,
    "awards": _award,
    "dojos": _dojo,
    "dojo_modules": _part_of_dojo,
    "dojo_challenges": _part_of_dojo,
    "dojo_challenge_visibilities": _part_of_dojo,
    "dojo_users": _part_of_dojo,
}
