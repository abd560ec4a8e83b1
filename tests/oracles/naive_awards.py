"""Belts, emojis and activity in plain Python, as in `tests.oracles.naive`."""

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from tests.oracles.naive import NEVER, Row, World, is_open_to_all

COLORS = ["orange", "yellow", "green", "purple", "blue", "brown", "red", "black"]


def awards_of(world: World, kind: str) -> list[Row]:
    shown = {user["id"] for user in world.users if not user["hidden"]}
    return [each for each in world.awards if each["type"] == kind and each["user_id"] in shown]


def when(award: Row) -> tuple[datetime, int]:
    return award["date"] or NEVER, award["id"]


def text(date: datetime | None) -> str | None:
    return None if date is None else str(date)


def belts(world: World) -> Row:
    users = {user["id"]: user for user in world.users}
    held: dict[int, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for award in sorted(awards_of(world, "belt"), key=when):
        if award["name"] in COLORS:
            held[award["user_id"]][award["name"]].append(award)
    value: Row = {
        "dates": {color: {} for color in COLORS},
        "users": {},
        "ranks": {color: [] for color in COLORS},
    }
    best: dict[str, list[Row]] = {color: [] for color in COLORS}
    for user_id, own in held.items():
        for color, same in own.items():
            dates = [award["date"] for award in same if award["date"] is not None]
            value["dates"][color][str(user_id)] = text(max(dates, default=None))
        color = max(own, key=COLORS.index)
        first = min(own[color], key=when)
        best[color].append(first)
        value["users"][str(user_id)] = {
            "handle": users[user_id]["name"],
            "site": users[user_id]["website"],
            "color": color,
            "date": text(first["date"]),
        }
    for color in COLORS:
        value["ranks"][color] = [award["user_id"] for award in sorted(best[color], key=when)]
    return value


def emojis(world: World) -> Row:
    dojos = {}
    for dojo in world.dojos:
        data = dojo["data"] if isinstance(dojo["data"], dict) else {}
        award = data.get("award")
        emoji = award.get("emoji") if isinstance(award, dict) else None
        if isinstance(emoji, str) and emoji:
            number = f"{dojo['dojo_id'] % 2**32:08x}"
            dojos[number] = {
                "reference_id": dojo["id"] if dojo["official"] else f"{dojo['id']}~{number}",
                "emoji": emoji,
                "is_public": is_open_to_all(dojo),
                "is_example": data.get("type") == "example",
            }
    awarded = sorted(awards_of(world, "emoji"), key=lambda each: each["id"])
    awarded = sorted(awarded, key=descending_name, reverse=True)
    awarded = sorted(awarded, key=lambda each: each["date"] or NEVER)
    emojis: dict[str, list[Row]] = {}
    for award in awarded:
        own = emojis.setdefault(str(award["user_id"]), [])
        same = [each for each in own if each["emoji"] == award["icon"]]
        if award["category"] not in [each["category"] for each in same]:
            own.append(entry(award, dojos))
        elif award["name"] == "CUSTOM":
            same[0]["count"] += 1
            same[0]["text"] = (same[0]["text"] or "") + "\n" + (award["description"] or "")
            same[0].setdefault("further", []).append([award["category"], award["description"]])
    return {"emojis": emojis, "dojos": dojos}


def viewable(world: World, dojo_ids: set[int]) -> Row:
    """Return the emojis for viewers of these dojos, computed from their visible awards."""
    numbers = {f"{dojo_id % 2**32:08x}" for dojo_id in dojo_ids}
    shown = emojis(world)["dojos"]
    shown = {key: dojo for key, dojo in shown.items() if dojo["is_public"] or key in numbers}
    awards = [each for each in world.awards if each["category"] in {None, *shown, *numbers}]
    own = emojis(World(users=world.users, dojos=world.dojos, awards=awards))["emojis"]
    for entries in own.values():
        for each in entries:
            each.pop("further", None)
    return {"emojis": own, "dojos": shown}


def descending_name(award: Row) -> tuple[bool, str]:
    """Return a sort key; in descending order a missing name comes after the empty one."""
    return award["name"] is not None, award["name"] or ""


def entry(award: Row, dojos: dict[str, Row]) -> Row:
    own: Row = {
        "text": award["description"],
        "emoji": award["icon"],
        "count": 1,
        "url": "#",
        "stale": "STALE" in (award["name"] or ""),
        "category": award["category"],
    }
    if award["category"] in dojos:
        dojo = dojos[award["category"]]
        own["url"] = "/dojo/" + dojo["reference_id"]
        own["is_public"] = dojo["is_public"]
        own["is_example"] = dojo["is_example"]
    return own


def activity(world: World, user: Row, now: datetime) -> Row:
    solves = [
        solve
        for solve in sorted(world.submissions, key=lambda each: each["id"])
        if solve["type"] == "correct"
        and solve["user_id"] == user["id"]
        and solve["date"] is not None
        and solve["date"] >= now - timedelta(days=365)
    ]
    return {
        "solve_timestamps": [solve["date"].isoformat() + "Z" for solve in solves],
        "total_solves": len(solves),
    }


def site(world: World, now: datetime) -> dict[str, Any]:
    """Return all values that belong to no dojo, by key."""
    return {
        "stats:belts": belts(world),
        "stats:emojis": emojis(world),
        **{f"stats:activity:{user['id']}": activity(world, user, now) for user in world.users},
    }
