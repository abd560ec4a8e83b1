"""Emojis: the awards of users, from dojos or given by hand; see docs/contract.md."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

import sqlalchemy as sa

from statsd import keys
from statsd.calculators import Calculator, Cost, Input, Values
from statsd.calculators.counted import open_to_all, single
from statsd.job import Job
from statsd.schema import awards, dojos, users

CUSTOM = "CUSTOM"
"""The name of an emoji that may be awarded several times."""

STALE = "STALE"
"""A part of the name of an emoji that its dojo would no longer award."""

_LEAST, _LARGEST = -(2**31), 2**31 - 1  # the range of the column

NOWHERE = "#"
"""The address of an emoji that belongs to no dojo."""


class Award(NamedTuple):
    """A row of the statement: one emoji of a user."""

    user_id: int
    name: str | None
    description: str | None
    category: str | None
    icon: str | None


class Emojis(Job, frozen=True):
    """The emojis of all users: one value for the whole site."""

    kind: ClassVar[str] = "emojis"


def _emojis() -> "sa.Select[Any]":
    """Select all emojis, the oldest first.

    Names are ordered by code points, whatever the collation of the database. The date may be null:
    such an emoji comes last.
    """
    name = sa.collate(awards.c.name, "C")
    return (
        sa.select(
            awards.c.user_id,
            awards.c.name,
            awards.c.description,
            awards.c.category,
            awards.c.icon,
        )
        .select_from(awards.join(users, users.c.id == awards.c.user_id))
        .where(awards.c.type == sa.literal_column("'emoji'"), users.c.hidden.is_not(True))
        .order_by(awards.c.date.asc().nulls_last(), name.desc().nulls_last(), awards.c.id)
    )


def _dojos() -> "sa.Select[Any]":
    """Select the dojos that award an emoji: `data` has a text there that is not empty."""
    path = (dojos.c.data, "award", "emoji")
    emoji = sa.func.jsonb_extract_path_text(*path)
    is_text = sa.func.jsonb_typeof(sa.func.jsonb_extract_path(*path)) == "string"
    kind = sa.func.jsonb_extract_path_text(dojos.c.data, "type")
    return sa.select(
        dojos.c.dojo_id,
        dojos.c.id,
        sa.func.coalesce(dojos.c.official, sa.false()).label("official"),
        emoji.label("emoji"),
        sa.func.coalesce(open_to_all(), sa.false()).label("is_public"),
        sa.func.coalesce(kind == "example", sa.false()).label("is_example"),
    ).where(is_text, emoji != "")


def parameters(_jobs: Sequence[Emojis], _now: datetime) -> Mapping[str, Any]:
    """Return the parameters of the statements: they have none."""
    return {}


def shape(results: Sequence[Sequence["sa.Row[Any]"]]) -> Mapping[Emojis, Values]:
    """Return the value of the site."""
    awarded, awarding = results
    value = empty()
    for dojo in awarding:
        value["dojos"][keys.hex_id(dojo.dojo_id)] = {
            "reference_id": keys.reference_id(dojo.dojo_id, dojo.id, official=dojo.official),
            "emoji": dojo.emoji,
            "is_public": dojo.is_public,
            "is_example": dojo.is_example,
        }
    seen: set[tuple[int, str | None, str | None]] = set()
    first: dict[tuple[int, str | None], dict[str, Any]] = {}
    for award in map(Award._make, awarded):
        entry = first.get((award.user_id, award.icon))
        if (award.user_id, award.category, award.icon) not in seen:
            new = _entry(award, value["dojos"].get(award.category))
            seen.add((award.user_id, award.category, award.icon))
            first.setdefault((award.user_id, award.icon), new)
            value["emojis"].setdefault(str(award.user_id), []).append(new)
        elif entry and award.name == CUSTOM:
            entry["count"] += 1
            entry["text"] = _text(entry["text"], award.description)
            entry.setdefault("further", []).append([award.category, award.description])
    return {Emojis(): {keys.EMOJIS: value}}


def _entry(award: Award, dojo: Mapping[str, Any] | None) -> dict[str, Any]:
    entry = {
        "text": award.description,
        "emoji": award.icon,
        "count": 1,
        "url": f"/dojo/{dojo['reference_id']}" if dojo else NOWHERE,
        "stale": STALE in (award.name or ""),
        "category": award.category,
    }
    if dojo:
        entry |= {"is_public": dojo["is_public"], "is_example": dojo["is_example"]}
    return entry


def _text(text: str | None, further: str | None) -> str:
    return f"{text or ''}\n{further or ''}"


def viewable_in(value: Mapping[str, Any], viewable: Collection[int]) -> dict[str, Any]:
    """Return the part of the value that a user may see.

    `viewable` has the `dojo_id`s of dojos that the user may see beside the public ones. The result
    is what the value would be without the awards of other dojos. Emojis that belong to no dojo are
    always included. Emojis of a dojo that awards none any more, or is deleted, are included only if
    `viewable` has the dojo, since it may be private.
    """
    named = {keys.hex_id(dojo_id) for dojo_id in viewable if _LEAST <= dojo_id <= _LARGEST}
    visible = {
        category: dojo
        for category, dojo in value["dojos"].items()
        if dojo["is_public"] or category in named
    }
    categories = {None, *visible, *named}
    emojis = {
        user: own
        for user, entries in value["emojis"].items()
        if (own := _with_categories(entries, categories))
    }
    return {"emojis": emojis, "dojos": visible}


def _with_categories(
    entries: Sequence[Mapping[str, Any]], categories: Collection[str | None]
) -> list[Any]:
    """Return the entries of one user with awards of these categories alone.

    A further award counts in the user's first entry with the same icon, whose category may be
    another one. So an entry that is visible may contain the description of an award that is not,
    and the other way round.
    """
    own = [_alone(entry) for entry in entries if entry["category"] in categories]
    for entry in entries:
        for category, text in entry.get("further", ()):
            first = next((each for each in own if each["emoji"] == entry["emoji"]), None)
            if category in categories and first:
                first["count"] += 1
                first["text"] = _text(first["text"], text)
    return own


def _alone(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry without the further awards that are counted in it."""
    further = entry.get("further", ())
    alone = {name: each for name, each in entry.items() if name != "further"}
    if further:
        added = "".join(_text(None, text) for _, text in further)
        alone |= {"count": 1, "text": entry["text"].removesuffix(added) or None}
    return alone


def empty() -> dict[str, Any]:
    """Return the value of a site without emojis."""
    return {"emojis": {}, "dojos": {}}


def key(_job: Emojis) -> str:
    """Return the cache key."""
    return keys.EMOJIS


calculator = Calculator(
    job=Emojis,
    every=single(),
    statements=(_emojis(), _dojos()),
    parameters=parameters,
    shape=shape,
    key=key,
    empty=empty,
    depends_on=Input.EMOJIS | Input.USERS | Input.STRUCTURE,
    cost=Cost(batch=1, full_pass=True),
)
