"""Belts: which user has which belt, and since when; see docs/contract.md."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

import sqlalchemy as sa

from statsd import keys
from statsd.calculators import Calculator, Cost, Input, Values
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


# The date may be null: such a belt comes after all that have a date.
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


def parameters(_jobs: Sequence[Belts], _now: datetime) -> Mapping[str, Any]:
    """Return the parameters of the statement: it has none."""
    return {}


def shape(results: Sequence[Sequence["sa.Row[Any]"]]) -> Mapping[Belts, Values]:
    """Return the value of the site.

    Of equal belts of a user, `dates` has the latest date; everything else is taken from the first.
    """
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
    """Return, from the value of the site, the dates of one user's belts by colour, lowest first."""
    user = str(user_id)
    dates = {color: value["dates"].get(color, {}) for color in COLORS}
    return {color: own[user] for color, own in dates.items() if user in own}


def empty() -> dict[str, Any]:
    """Return the value of a site without belts, which has all colours."""
    return {
        "dates": {color: {} for color in COLORS},
        "users": {},
        "ranks": {color: [] for color in COLORS},
    }


def key(_job: Belts) -> str:
    """Return the cache key."""
    return keys.BELTS


calculator = Calculator(
    job=Belts,
    every=single(),
    statements=(_BELTS,),
    parameters=parameters,
    shape=shape,
    key=key,
    empty=empty,
    depends_on=Input.BELTS | Input.USERS,
    cost=Cost(batch=1, full_pass=True),
)
