"""Belts: who has which, and since when (contract, section 4)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

import sqlalchemy as sa

from statsd import keys
from statsd.calculators import Calculator, Values
from statsd.calculators.counted import single
from statsd.job import Job
from statsd.schema import awards, users

COLORS = ("orange", "yellow", "green", "purple", "blue", "brown", "red", "black")
"""All belts, the lowest first."""


_HEIGHTS = {color: height for height, color in enumerate(COLORS)}


class Belt(NamedTuple):
    """A row of the statement: one belt of a user."""

    color: str
    date: datetime | None
    user_id: int
    handle: str | None
    site: str | None


class Belts(Job, frozen=True):
    """The belts of all users: one value for the whole site."""

    kind: ClassVar[str] = "belts"


# A belt without a date, which the column allows, comes after all that have one.
_BELTS = (
    sa.select(
        awards.c.name.label("color"),
        awards.c.date,
        awards.c.user_id,
        users.c.name.label("handle"),
        users.c.website.label("site"),
    )
    .select_from(awards.join(users, users.c.id == awards.c.user_id))
    .where(awards.c.type == sa.literal_column("'belt'"), users.c.hidden.is_not(True))
    .order_by(awards.c.date.asc().nulls_last(), awards.c.id)
)


def parameters(_wanted: Sequence[Belts], _now: datetime) -> Mapping[str, Any]:
    """Return what the statement is bound to: nothing."""
    return {}


def shape(results: Sequence[Sequence["sa.Row[Any]"]]) -> Mapping[Belts, Values]:
    """Return the one value. `dates` has the latest of equal belts, all else goes by the first."""
    belts = [belt for belt in map(Belt._make, results[0]) if belt.color in _HEIGHTS]
    value = empty()
    highest: dict[int, Belt] = {}
    for belt in belts:
        dates = value["dates"][belt.color]
        if belt.date is not None or str(belt.user_id) not in dates:
            dates[str(belt.user_id)] = _date(belt)
        best = highest.get(belt.user_id)
        if best is None or _HEIGHTS[belt.color] > _HEIGHTS[best.color]:
            highest[belt.user_id] = belt
    for belt in belts:
        if highest[belt.user_id] is belt:
            value["ranks"][belt.color].append(belt.user_id)
            value["users"][str(belt.user_id)] = {
                "handle": belt.handle,
                "site": belt.site,
                "color": belt.color,
                "date": _date(belt),
            }
    return {Belts(): {keys.BELTS: value}}


def _date(belt: Belt) -> str | None:
    return None if belt.date is None else str(belt.date)


def user_of(value: Mapping[str, Any], user_id: int) -> dict[str, str | None]:
    """Return the dates of one user's belts by colour, the lowest first, from the whole value."""
    user = str(user_id)
    dates = {color: value["dates"].get(color, {}) for color in COLORS}
    return {color: own[user] for color, own in dates.items() if user in own}


def empty() -> dict[str, Any]:
    """Return the value of a site without belts: all colours are there."""
    return {
        "dates": {color: {} for color in COLORS},
        "users": {},
        "ranks": {color: [] for color in COLORS},
    }


calculator = Calculator(Belts, single(), (_BELTS,), parameters, shape, batch=1, costly=True)
