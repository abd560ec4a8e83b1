"""Emojis: what users were awarded, by dojos or by hand (contract, section 4)."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

import sqlalchemy as sa

from statsd import keys
from statsd.calculators import Calculator, Values
from statsd.calculators.counted import open_to_all, single
from statsd.job import Job
from statsd.schema import awards, dojos, users

CUSTOM = "CUSTOM"
"""The name of an emoji that may be awarded again and again."""

STALE = "STALE"
"""In the name of an emoji that its dojo would not award any more."""

_LEAST, _LARGEST = -(2**31), 2**31 - 1  # what the column holds

NOWHERE = "#"
"""The address of what belongs to no dojo."""


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

    Names are ordered by their letters' code points, in whichever order the database has others.
    One without a date, which the column allows, comes last.
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
    """Select the dojos that award an emoji, which is a text that is not empty."""
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


def parameters(_wanted: Sequence[Emojis], _now: datetime) -> Mapping[str, Any]:
    """Return what the statements are bound to: nothing."""
    return {}


def shape(results: Sequence[Sequence["sa.Row[Any]"]]) -> Mapping[Emojis, Values]:
    """Return the one value."""
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
    """Return what somebody may see who may see the dojos of these `dojo_id`s, and public ones.

    It is what the value would be without the awards of other dojos. Emojis that belong to no dojo
    are everybody's. One of a dojo that awards none, or is gone, is shown to those alone who name
    the dojo: it may be a private one.
    """
    named = {keys.hex_id(dojo_id) for dojo_id in viewable if _LEAST <= dojo_id <= _LARGEST}
    shown = {
        category: dojo
        for category, dojo in value["dojos"].items()
        if dojo["is_public"] or category in named
    }
    seen = {None, *shown, *named}
    emojis = {
        user: own for user, entries in value["emojis"].items() if (own := _seen(entries, seen))
    }
    return {"emojis": emojis, "dojos": shown}


def _seen(entries: Sequence[Mapping[str, Any]], seen: Collection[str | None]) -> list[Any]:
    """Return the entries of one user without what belongs to other categories than these.

    A further award counts in the user's first entry with its icon, whichever category that has: so
    its description may stand in an entry that is seen, and it in one that is not.
    """
    own = [_alone(entry) for entry in entries if entry["category"] in seen]
    for entry in entries:
        for category, text in entry.get("further", ()):
            first = next((each for each in own if each["emoji"] == entry["emoji"]), None)
            if category in seen and first:
                first["count"] += 1
                first["text"] = _text(first["text"], text)
    return own


def _alone(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry as it was before further awards were counted in it."""
    further = entry.get("further", ())
    alone = {name: each for name, each in entry.items() if name != "further"}
    if further:
        added = "".join(_text(None, text) for _, text in further)
        alone |= {"count": 1, "text": entry["text"].removesuffix(added) or None}
    return alone


def empty() -> dict[str, Any]:
    """Return the value of a site without emojis."""
    return {"emojis": {}, "dojos": {}}


calculator = Calculator(
    Emojis, single(), (_emojis(), _dojos()), parameters, shape, batch=1, costly=True
)
